"""The IMIL loop: the only room that knows learning, Label Studio and the store."""
