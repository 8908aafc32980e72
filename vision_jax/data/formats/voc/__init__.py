"""Pascal VOC's folders of images, XML files and label maps (Everingham et al. 2010)."""
