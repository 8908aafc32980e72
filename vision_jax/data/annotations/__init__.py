"""What annotations of several formats have in common: boxes, label maps, class names, and their checks."""
