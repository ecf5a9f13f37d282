"""The networks of the effect model: one file or folder each."""
