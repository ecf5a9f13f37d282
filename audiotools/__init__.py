"""Signal code: pure functions on arrays of samples, which know nothing of corpora, models or commands."""
