"""Stacks ragged examples into batches of fixed shapes, padded, with what is padding written beside it.

Images are pasted at the top left of a canvas of zeros; boxes are padded to `max_objects`; a last, partial
batch is padded with blank examples whose `example_valid` is False.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
from jaxtyping import UInt8

from vision_jax.data.examples import (
    ClassificationExample,
    DetectionExample,
    InstanceExample,
    SegmentationExample,
)
from vision_jax.data.sources import DetectionSource
from vision_jax.data.transforms.frames import render_mask
from vision_jax.data.transforms.geometry import Canvas, oriented
from vision_jax.types import ClassificationBatch, DetectionBatch, InstanceBatch, SegmentationBatch, UserError

_DTYPES = {"UInt8": "uint8", "Int": "int32", "Float": "float32", "Bool": "bool"}


def count_objects(source: DetectionSource) -> int:
    """The most boxes, ignored ones included, that an image of a source has; at least 1.

    A source that knows a bound beforehand says so in an attribute `max_objects`.
    """
    known = getattr(source, "max_objects", None)
    if known is not None:
        return known
    return max([1, *(len(source.record(index).boxes) for index in range(len(source)))])


def _paste(canvas: UInt8[np.ndarray, "H W 3"], image: UInt8[np.ndarray, "h w 3"], id: int) -> None:
    """Copies an image into a canvas, in place, at the top left.

    Raises:
        ValueError: it is larger; `id` names it.
    """
    height, width = image.shape[:2]
    if height > canvas.shape[0] or width > canvas.shape[1]:
        raise ValueError(
            f"image {id} is {height}x{width}, larger than the canvas {canvas.shape[:2]}: resize it first"
        )
    canvas[:height, :width] = image


def _shared_canvas(examples: Sequence[DetectionExample], canvas: Canvas) -> Canvas:
    """(height, width), landscape or portrait as all examples are; where they differ, the smallest that holds
    both."""
    turned = [oriented(canvas, *example.original_size) for example in examples] or [canvas]
    return max(height for height, _ in turned), max(width for _, width in turned)


def _check_number(examples: Sequence[Any], batch_size: int) -> None:
    """Refuses more examples than a batch takes."""
    if len(examples) > batch_size:
        raise ValueError(f"{len(examples)} examples do not fit into a batch of {batch_size}")


def detection_batch(
    examples: Sequence[DetectionExample], canvas: Canvas, max_objects: int, batch_size: int
) -> DetectionBatch:
    """Stacks detection examples.

    Args:
        examples: at most `batch_size`, already resized to fit the canvas.
        canvas: (height, width), turned to the orientation of the original images; where a batch holds both
            orientations, the smallest canvas that holds them.
        max_objects: boxes an image, ignored ones included.
        batch_size: images; missing ones are blank, with id -1 and `example_valid` False.

    Returns:
        The batch, as numpy arrays.

    Raises:
        UserError: an image has more than `max_objects` boxes; none is dropped silently.
    """
    return DetectionBatch(**_detection_arrays(examples, canvas, max_objects, batch_size))


def instance_batch(
    examples: Sequence[InstanceExample], canvas: Canvas, max_objects: int, batch_size: int
) -> InstanceBatch:
    """Stacks instance examples.

    Crops are taken as they are, with their frames. Full bitmaps are rendered on the canvas, each pixel with
    the cell under its center, 0 outside the content, and their frame is the canvas.

    Args:
        examples: at least one, otherwise as for `detection_batch`; all with crops of one size, or all with
            full bitmaps.
        canvas, max_objects, batch_size: as for `detection_batch`.

    Returns:
        The batch, as numpy arrays. Where padded, a mask is 0 and its frame the unit square at the origin (for
        full bitmaps the canvas): no frame is empty.

    Raises:
        UserError: an image has more than `max_objects` boxes; none is dropped silently.
    """
    arrays = _detection_arrays(examples, canvas, max_objects, batch_size)
    kinds = {example.full or example.masks.shape[1:] for example in examples}
    if len(kinds) != 1:
        raise ValueError(f"a batch takes masks of one kind and size, not of {len(kinds)}")
    height, width = arrays["image"].shape[1:3]
    full = examples[0].full
    cells = (height, width) if full else examples[0].masks.shape[1:]
    masks = np.zeros((batch_size, max_objects, *cells), np.uint8)
    unused = [0, 0, width, height] if full else [0, 0, 1, 1]
    frames = np.tile(np.array(unused, np.float32), (batch_size, max_objects, 1))
    for i, example in enumerate(examples):
        if full:
            h, w = example.image.shape[:2]
            for j, (mask, frame) in enumerate(zip(example.masks, example.frames, strict=True)):
                masks[i, j, :h, :w] = render_mask(mask, frame, h, w)
        else:
            masks[i, : len(example.masks)] = example.masks
            frames[i, : len(example.frames)] = example.frames
    return InstanceBatch(**arrays | {"masks": masks, "frames": frames})


def _detection_arrays(
    examples: Sequence[DetectionExample], canvas: Canvas, max_objects: int, batch_size: int
) -> dict[str, Any]:
    """The fields of a `DetectionBatch` by name; args and raises as for `detection_batch`."""
    _check_number(examples, batch_size)
    height, width = _shared_canvas(examples, canvas)
    b, n = batch_size, max_objects
    image = np.zeros((b, height, width, 3), np.uint8)
    size = np.tile(np.array([height, width], np.int32), (b, 1))
    boxes = np.zeros((b, n, 4), np.float32)
    labels = np.full((b, n), -1, np.int32)
    valid = np.zeros((b, n), bool)
    ignore = np.zeros((b, n), bool)
    id = np.full((b,), -1, np.int32)
    scale = np.ones((b, 2), np.float32)
    original_size = size.copy()
    for i, example in enumerate(examples):
        count = len(example.boxes)
        if count > max_objects:
            raise UserError(
                f"image {example.id} has {count} boxes, more than max_objects={max_objects}: "
                f"raise max_objects to {count} or more"
            )
        _paste(image[i], example.image, example.id)
        size[i] = example.image.shape[:2]
        boxes[i, :count] = example.boxes
        labels[i, :count] = example.labels
        valid[i, :count] = ~example.ignore
        ignore[i, :count] = example.ignore
        id[i] = example.id
        scale[i] = example.scale
        original_size[i] = example.original_size
    return {
        "image": image, "size": size, "boxes": boxes, "labels": labels, "valid": valid, "ignore": ignore,
        "id": id, "scale": scale, "original_size": original_size,
        "example_valid": np.arange(b) < len(examples),
    }  # fmt: skip


def segmentation_batch(
    examples: Sequence[SegmentationExample], canvas: Canvas, batch_size: int
) -> SegmentationBatch:
    """Stacks images and label maps; labels are -1 outside the content.

    Args:
        examples: at most `batch_size`, already resized to fit the canvas.
        canvas: (height, width), as given whatever the images' orientation.
        batch_size: images; missing ones are blank, with id -1 and `example_valid` False.

    Returns:
        The batch, as numpy arrays.
    """
    _check_number(examples, batch_size)
    height, width = canvas
    image = np.zeros((batch_size, height, width, 3), np.uint8)
    size = np.tile(np.array([height, width], np.int32), (batch_size, 1))
    labels = np.full((batch_size, height, width), -1, np.int32)
    id = np.full((batch_size,), -1, np.int32)
    original_size = size.copy()
    for i, example in enumerate(examples):
        _paste(image[i], example.image, example.id)
        h, w = size[i] = example.image.shape[:2]
        labels[i, :h, :w] = example.labels
        id[i] = example.id
        original_size[i] = example.original_size
    arrays: dict[str, Any] = {
        "image": image, "size": size, "labels": labels, "id": id, "original_size": original_size,
        "example_valid": np.arange(batch_size) < len(examples),
    }  # fmt: skip
    return SegmentationBatch(**arrays)


def classification_batch(
    examples: Sequence[ClassificationExample], canvas: Canvas, batch_size: int
) -> ClassificationBatch:
    """Stacks labeled images.

    Args:
        examples: at most `batch_size`, already resized to fit the canvas; a smaller image is at its top left.
        canvas: (height, width).
        batch_size: images; missing ones are blank, with label and id -1 and `example_valid` False.

    Returns:
        The batch, as numpy arrays.
    """
    _check_number(examples, batch_size)
    image = np.zeros((batch_size, *canvas, 3), np.uint8)
    labels = np.full((batch_size,), -1, np.int32)
    id = np.full((batch_size,), -1, np.int32)
    for i, example in enumerate(examples):
        _paste(image[i], example.image, example.id)
        labels[i], id[i] = example.label, example.id
    arrays: dict[str, Any] = {
        "image": image, "labels": labels, "id": id,
        "example_valid": np.arange(batch_size) < len(examples),
    }  # fmt: skip
    return ClassificationBatch(**arrays)


def check(batch: Any) -> Any:
    """Compares a batch's arrays with the shapes and dtypes that its struct's annotations state.

    `Int` means int32 and `Float` float32. Named dimensions must agree between all fields.

    Args:
        batch: a struct of this project whose fields are annotated with jaxtyping.

    Returns:
        The batch itself.

    Raises:
        TypeError: naming the struct, the field, what it is and what it should be.
    """
    sizes: dict[str, tuple[int, str]] = {}
    hints = get_type_hints(type(batch))
    for field in fields(batch):
        array, hint = getattr(batch, field.name), hints[field.name]
        name = f"{type(batch).__name__}.{field.name}"
        dtype = _DTYPES[hint.__name__.split("[")[0]]
        if str(getattr(array, "dtype", type(array).__name__)) != dtype:
            raise TypeError(f"{name} is {getattr(array, 'dtype', type(array).__name__)}, should be {dtype}")
        dims = hint.dim_str.split()
        complaint = f"{name} has shape {array.shape}, should be [{', '.join(dims)}]"
        if len(dims) != array.ndim:
            raise TypeError(complaint)
        for dim, size in zip(dims, array.shape, strict=True):
            if dim.isdigit():
                if size != int(dim):
                    raise TypeError(complaint)
            elif sizes.setdefault(dim, (size, name))[0] != size:
                wanted, where = sizes[dim]
                raise TypeError(f"{complaint} with {dim}={wanted} as in {where}")
    return batch
