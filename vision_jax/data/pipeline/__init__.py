"""From a source to batches of fixed shapes."""
