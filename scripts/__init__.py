"""Commands and real networks for developing tvm_rsq; not installed with the package."""
