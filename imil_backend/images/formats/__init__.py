"""PNG, JPEG, TIFF, BMP and what else Pillow reads."""
