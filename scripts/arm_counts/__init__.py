"""Instructions of networks on emulated aarch64 CPUs: ours, and ONNX Runtime's counted the same way."""
