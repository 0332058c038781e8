"""Everything said to and heard from Label Studio. Knows nothing of torch or the store."""
