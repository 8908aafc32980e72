"""Annotations of other programs, recognized so that a message can say what they are and what to do.

What is recognized goes by the fields that these programs always write: LabelMe's and VIA's json, CreateML's,
Label Studio's, Datumaro's, COCO's own kinds that hold no instances, and YOLO's text files.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from vision_jax.data.files.listing import find

_OF_OBJECT = (
    (("shapes", "imagePath"), "LabelMe's, one file an image: convert them, for example with labelme2coco"),
    (("_via_img_metadata",), "a VIA project: in VIA, export the annotations as COCO"),
    (("items", "categories"), "Datumaro's: export as COCO 1.0 instead"),
)
_OF_ENTRIES = (
    (("image_id", "score"), "a file of COCO results (detections), not of annotations"),
    (("image", "annotations"), "CreateML's: export as COCO instead"),
    (("data", "annotations"), "Label Studio's own: export as COCO instead"),
    (("data", "predictions"), "Label Studio's own: export as COCO instead"),
)
_OF_YOLO = ("data.y*ml", "dataset.y*ml", "labels/*.txt", "*/labels/*.txt", "labels/*/*.txt")
_OF_ANNOTATIONS = (
    ("caption", "a COCO captions file: there are no boxes in it"),
    ("segments_info", "a COCO panoptic file: use the file of instances"),
)


def describe_json(content: Any) -> str | None:
    """What a parsed json file is, where it is known and not COCO instances, and what to do.

    Args:
        content: what the file holds.

    Returns:
        The end of a sentence that begins with "this file is"; None where nothing is recognized.
    """
    if isinstance(content, list):
        entry = next((entry for entry in content if isinstance(entry, dict)), {})
        return next((text for names, text in _OF_ENTRIES if entry.keys() >= set(names)), None)
    if not isinstance(content, dict):
        return None
    known = next((text for names, text in _OF_OBJECT if content.keys() >= set(names)), None)
    if known:
        return known
    if any(isinstance(value, dict) and "regions" in value for value in islice(content.values(), 8)):
        return "VIA's annotations: in VIA, export them as COCO"
    annotations = content.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    if isinstance(first, Mapping) and "bbox" not in first:
        return next((text for name, text in _OF_ANNOTATIONS if name in first), None)
    return None


def describe_folder(root: Path) -> str:
    """A hint for an error about a folder in which annotations were looked for in vain.

    Returns:
        "; it looks like ...", or nothing where nothing is recognized.
    """
    if any(find(root, pattern) for pattern in _OF_YOLO):
        return (
            "; it looks like YOLO's format (a text file of boxes an image), which is not read: export as COCO"
        )
    if find(root, "annotations.xml"):
        return "; it looks like CVAT's own format (annotations.xml): export as COCO 1.0 or PASCAL VOC 1.1"
    if find(root, "via_*.json"):
        return "; it looks like a VIA project: in VIA, export the annotations as COCO"
    return ""
