"""Listening studies: clips without names, the page they are rated on, and what the ratings say."""
