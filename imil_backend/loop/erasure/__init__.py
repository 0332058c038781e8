"""Erases what is known of patients and annotators."""
