"""Spatial transformers and what stands on them, one file per system."""
