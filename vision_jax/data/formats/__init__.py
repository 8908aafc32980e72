"""Data sets as people keep them on disk: a room a format, none of which knows another."""
