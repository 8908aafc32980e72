"""Digits of another source, distorted, added up, or placed in larger images."""
