"""Describe a corpus for people and for other programs: a README, Croissant metadata, and features for loaders."""
