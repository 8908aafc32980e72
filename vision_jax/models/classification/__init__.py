"""Image classifiers, one file per system."""
