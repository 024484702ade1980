"""Buy orders as queries show them."""
