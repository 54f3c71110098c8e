"""`python -m tvm_rsq`: the command line where its script is not on the path."""

from tvm_rsq.cli.app import main

main()
