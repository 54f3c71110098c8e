"""The parts of scripts/ablation."""
