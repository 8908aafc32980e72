"""Evaluation of boxes and instance masks: COCO's and VOC's average precision, recall, confusion."""
