"""Folders, tables and zips as people have them, read into rows."""
