"""Networks and the denoisers built from them."""
