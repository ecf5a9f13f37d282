"""One file per command; a file dropped here is a command."""
