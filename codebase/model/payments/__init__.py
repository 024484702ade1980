"""Card transactions: what is paid, by which card, and whether it looks like fraud."""
