"""Signal code: pure functions on arrays of samples."""
