"""A trained model renders: batches from seeds, streams of audio, knobs."""
