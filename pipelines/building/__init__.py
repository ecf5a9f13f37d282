"""Carry out a plan in an output folder: all of its shards or a range of them."""
