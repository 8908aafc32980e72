"""Semantic segmenters, one file per system."""
