"""From recipes to shards: order, keys, splits, growth; pure, no file is touched."""
