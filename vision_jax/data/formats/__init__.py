"""Data sets as people keep them on disk: a room for each format, none of which knows another.

Each states, as `FORMATS`, the kinds of data text that it opens, their tasks and options
(`vision_jax.data.format`).
"""
