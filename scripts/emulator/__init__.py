"""Emulated aarch64 boards on this machine: TVM's own runtime for them, under QEMU, behind the RPC server of tvm_rsq."""
