"""Backup, restore, moving, and the doctor."""
