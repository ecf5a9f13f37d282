"""One shard from start to finish: read, apply steps, store, commit."""
