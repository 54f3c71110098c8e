"""The command line, `tvm-rsq`: one command per file. No module in here imports torch, tvm or numpy before a command runs."""

from tvm_rsq.cli.app import main

__all__ = ["main"]
