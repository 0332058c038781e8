"""Removes what a data directory no longer needs."""
