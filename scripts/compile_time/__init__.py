"""What quantizing and compiling a network costs: `scripts/bench_compile`."""
