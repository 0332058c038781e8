"""Pixels: reading, masks, blackout, cache, phantoms. Knows nothing of Label Studio, torch or databases."""
