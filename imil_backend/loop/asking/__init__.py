"""What is put to people beside mispredictions: gold tasks, and reviews of answers in dispute."""
