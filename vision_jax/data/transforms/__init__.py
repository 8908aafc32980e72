"""An example's pixels and annotations, flipped, resized, cropped and varied together."""
