"""How alike two sounds or two sets of sounds are, and how sure that is."""
