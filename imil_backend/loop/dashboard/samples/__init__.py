"""The samples of a dataset: found by what they are and what became of them, and shown small."""
