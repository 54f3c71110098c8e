"""Codebook weights: which values a layer's weights may take, and codes into them."""
