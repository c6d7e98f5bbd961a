"""How fast votes are counted, and how many are needed."""
