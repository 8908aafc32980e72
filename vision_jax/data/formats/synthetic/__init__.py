"""Scenes and digits that need no files."""
