"""Metrics, the ranking of mispredictions, and the comparison of versions. Numpy alone."""
