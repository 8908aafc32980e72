"""Evaluation of label maps: accuracies, IoU, and how well they follow boundaries."""
