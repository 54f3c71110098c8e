"""The plan as a standard ONNX network with QuantizeLinear and DequantizeLinear (QDQ), for other runtimes."""
