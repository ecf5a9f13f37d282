"""A trained model renders: batches of requests, and streams of audio."""
