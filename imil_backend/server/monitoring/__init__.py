"""What monitoring asks over HTTP: /ready and /metrics."""
