"""Random networks of supported operators, and what has to hold for each of them."""
