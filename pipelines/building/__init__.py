"""Carry out a plan in an output folder, whole or a range of it."""
