"""The results of a comparison: numbers, figures, and a page that says in plain sentences what they mean."""
