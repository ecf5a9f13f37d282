"""Whether this machine, and what is installed on it, is fit."""
