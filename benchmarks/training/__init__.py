"""How fast DE-CROP trains and generates, and what its variants gain."""
