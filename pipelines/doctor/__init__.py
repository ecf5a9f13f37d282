"""Checks: whether this machine is fit, and what is installed on it."""
