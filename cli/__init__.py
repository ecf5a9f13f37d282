"""The commands, their flags, and their printed output."""
