"""What a training consists of, and how it is resumed."""
