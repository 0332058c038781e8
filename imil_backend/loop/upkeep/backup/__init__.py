"""Everything of a backend in one file, and back: databases, masks, versions, weights, secrets."""
