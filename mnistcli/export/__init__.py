"""Networks as ONNX and C files, proved to predict what PyTorch predicts."""
