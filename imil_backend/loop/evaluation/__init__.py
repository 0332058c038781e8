"""Numbers and plots of versions, worked out once and kept beside each version's report."""
