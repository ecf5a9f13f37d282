"""Files that other programs play: .nam, ONNX, TorchScript."""
