"""Plain folders: of images by class, and of images beside their label maps."""
