"""Verify, repair, trace, diff, remove, and look for leaks."""
