"""Data-free hybrid quantization of trained networks to integer-only libraries, on Apache TVM."""
