"""Weights of other frameworks: their files, read without running anything from them."""
