"""`imil compare`: arms trained under one protocol, what they predict, and what that says."""
