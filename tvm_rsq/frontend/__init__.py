"""Read a network from PyTorch or ONNX into a Model."""

from tvm_rsq.frontend.load_model import load

__all__ = ["load"]
