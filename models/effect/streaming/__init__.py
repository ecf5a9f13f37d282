"""Compiled loops that play the networks block by block."""
