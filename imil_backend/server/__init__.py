"""The ML-backend protocol over HTTP. Thin; talks to the loop alone."""
