"""The steps that come with tonemill, one file each; a file dropped here is a command."""
