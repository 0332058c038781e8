"""What a version makes of images."""
