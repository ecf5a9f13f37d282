"""Is this machine, and what is installed on it, fit?"""
