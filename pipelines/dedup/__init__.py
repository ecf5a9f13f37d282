"""Fingerprints of recipes, and clusters of copies."""
