"""Takes payments by card, has them looked at and paid, and shows them."""
