"""What keeps decoders within the memory of the machine."""
