"""Labeling configs, and what annotations mean."""
