"""The first step of scripts/device_bench, on a machine with TVM and nvcc and no GPU: kernels, what they read and what they should write."""
