"""Do work that has no plan, as of `scan` and `verify`, in pieces, and keep answers until the command ends."""
