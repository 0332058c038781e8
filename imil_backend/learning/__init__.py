"""The network and its training. Runs on a bare GPU machine; no Label Studio, Flask or database."""
