"""The training loop, its batches, and what is listened to on the way."""
