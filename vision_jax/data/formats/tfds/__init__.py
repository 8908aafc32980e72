"""Data sets that tensorflow-datasets prepared, read without TensorFlow."""
