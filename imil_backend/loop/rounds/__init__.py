"""A round from its push to its report."""
