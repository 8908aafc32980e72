"""Attention to places, one file per system."""
