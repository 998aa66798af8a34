"""Networks of a single depth, trained alone, and what the adaptive network gains over them."""
