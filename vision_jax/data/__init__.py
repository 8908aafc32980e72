"""Data sets in random access, transforms, and batches: from files to what a model sees."""
