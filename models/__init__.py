"""Models: one file or folder each, and the contract they meet."""
