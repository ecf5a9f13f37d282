"""One HTML page on which to look and listen."""
