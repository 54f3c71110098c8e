"""Weights on uniform grids and on codebooks, layer by layer: `scripts/compare_codebooks`."""
