"""Groups, duplicates and the split into training, validation and test."""
