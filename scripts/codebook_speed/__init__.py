"""Layers with codebook weights against the same with int8 weights: `scripts/bench_codebook`."""
