"""Tables and the few queries on them."""
