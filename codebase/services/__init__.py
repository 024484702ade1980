"""What we deploy: one folder per deployable, named verb_noun, with a `service.py`."""
