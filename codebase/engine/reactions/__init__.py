"""How an event causes something else, once."""
