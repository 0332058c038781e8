"""Requests to Label Studio, and what is never sent to others."""
