"""What the search is worth, and what it costs."""
