"""What the pages of rounds, and of where their versions looked, show."""
