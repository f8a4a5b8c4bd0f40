"""`mnist export`: networks for other programs (ONNX, C), proved to predict what PyTorch predicts."""
