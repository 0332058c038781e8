"""What is irrelevant, learned from a few painted masks and found in all other images."""
