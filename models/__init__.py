"""Models: one file or folder each, the contract they meet, and what two or more of them share."""
