"""Who cooks: local processes and Beam, watched, restarted, probed."""
