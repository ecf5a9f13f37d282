"""The networks of the effect model, a file each."""
