"""Read a network from PyTorch or ONNX into a Model."""
