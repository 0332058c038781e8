"""What monitoring asks: whether the backend is ready, and its figures."""
