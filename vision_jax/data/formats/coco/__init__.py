"""COCO's json files of boxes, masks and categories (Lin et al. 2014)."""
