"""What a bundle of kernels does on the machine with the GPU, with nothing but Python, numpy and NVIDIA's driver: check, then time."""
