"""Stacks ragged examples into batches of fixed shapes, padded, with what is padding written beside it.

How each field is stacked it says itself (`vision_jax.data.fields`); a last, partial batch is padded with
blank examples whose `example_valid` is False.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import numpy as np
from jaxtyping import Bool, Int32

from vision_jax.data.examples import (
    ClassificationExample,
    DetectionExample,
    ImageExample,
    InstanceExample,
    SegmentationExample,
)
from vision_jax.data.fields.image import Image
from vision_jax.data.fields.label_map import LabelMap
from vision_jax.data.fields.masks import Masks
from vision_jax.data.fields.objects import Objects
from vision_jax.data.sources import DetectionSource
from vision_jax.data.transforms.geometry import Canvas, target_canvas
from vision_jax.types import ClassificationBatch, DetectionBatch, InstanceBatch, SegmentationBatch

_DTYPES = {"UInt8": "uint8", "Int": "int32", "Float": "float32", "Bool": "bool"}


def count_objects(source: DetectionSource) -> int:
    """The most boxes, ignored ones included, that an image of a source has; at least 1.

    A source that knows a bound beforehand says so in an attribute `max_objects`.
    """
    known = getattr(source, "max_objects", None)
    if known is not None:
        return known
    return max([1, *(len(source.record(index).boxes) for index in range(len(source)))])


def stack_ids(
    ids: Sequence[int], batch_size: int
) -> dict[str, Int32[np.ndarray, " b"] | Bool[np.ndarray, " b"]]:
    """`id` and `example_valid` of a batch: -1 and False for missing examples.

    Raises:
        ValueError: there are more examples than a batch takes.
    """
    if len(ids) > batch_size:
        raise ValueError(f"{len(ids)} examples do not fit into a batch of {batch_size}")
    id = np.full((batch_size,), -1, np.int32)
    id[: len(ids)] = ids
    return {"id": id, "example_valid": np.arange(batch_size) < len(ids)}


def _shared_canvas(examples: Sequence[ImageExample], canvas: Canvas) -> Canvas:
    """(height, width), landscape or portrait as all examples are; where they differ, the smallest that holds
    both."""
    turned = [target_canvas(example, canvas) for example in examples] or [canvas]
    return max(height for height, _ in turned), max(width for _, width in turned)


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
    """Stacks instance examples, their masks as `Masks.stack` does.

    Args:
        examples: at least one, otherwise as for `detection_batch`; all with crops of one size, or all with
            full bitmaps.
        canvas, max_objects, batch_size: as for `detection_batch`.

    Returns:
        The batch, as numpy arrays.

    Raises:
        UserError: an image has more than `max_objects` boxes; none is dropped silently.
    """
    arrays = _detection_arrays(examples, canvas, max_objects, batch_size)
    arrays["masks"], arrays["frames"] = Masks.stack(
        [example.objects.masks for example in examples],
        [example.size for example in examples],
        _shared_canvas(examples, canvas),
        max_objects,
        batch_size,
    )
    return InstanceBatch(**arrays)


def _detection_arrays(
    examples: Sequence[DetectionExample], canvas: Canvas, max_objects: int, batch_size: int
) -> dict[str, Any]:
    """The fields of a `DetectionBatch` by name; args and raises as for `detection_batch`."""
    ids = [example.id for example in examples]
    arrays = stack_ids(ids, batch_size)
    images = [example.image for example in examples]
    objects = [example.objects for example in examples]
    shared = _shared_canvas(examples, canvas)
    arrays |= Image.stack(images, ids, shared, batch_size)
    return arrays | Objects.stack(objects, ids, max_objects, batch_size)


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
    ids = [example.id for example in examples]
    arrays: dict[str, Any] = stack_ids(ids, batch_size)
    arrays |= Image.stack([example.image for example in examples], ids, canvas, batch_size)
    del arrays["scale"]
    arrays["labels"] = LabelMap.stack([example.label_map for example in examples], canvas, batch_size)
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
    ids = [example.id for example in examples]
    arrays: dict[str, Any] = stack_ids(ids, batch_size)
    images = [example.image for example in examples]
    arrays["image"] = Image.stack(images, ids, canvas, batch_size)["image"]
    arrays["labels"] = np.full((batch_size,), -1, np.int32)
    arrays["labels"][: len(examples)] = [example.label for example in examples]
    return ClassificationBatch(**arrays)


def check(batch: Any) -> Any:
    """Compares a batch's arrays with the shapes and dtypes that its struct's annotations state.

    `Int` means int32 and `Float` float32. Named dimensions must agree between all fields of one struct. In
    structs, mappings and tuples inside it `b` is the same, and other dimensions are each one's own.

    Args:
        batch: a struct of this project whose fields are annotated with jaxtyping, or are structs, mappings by
            name, or tuples of such.

    Returns:
        The batch itself.

    Raises:
        TypeError: naming the struct, the field, what it is and what it should be.
    """
    _check_struct(batch, {})
    return batch


# Of each named dimension, its size and the field that has it.
_Sizes = dict[str, tuple[int, str]]


def _check_struct(struct: Any, sizes: _Sizes) -> None:
    hints = get_type_hints(type(struct))
    values = {field.name: getattr(struct, field.name) for field in fields(struct)}
    # arrays first: they tell what `b` is in the rest
    for name in sorted(values, key=lambda name: not isinstance(values[name], np.ndarray)):
        _check_value(values[name], hints[name], f"{type(struct).__name__}.{name}", sizes)


def _check_value(value: Any, hint: Any, name: str, sizes: _Sizes) -> None:
    """Checks a field's value; of the dimensions inside it only `b` is that of the struct around it."""
    inside: _Sizes = {dim: found for dim, found in sizes.items() if dim == "b"}
    if is_dataclass(value):
        _check_struct(value, inside)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _check_value(part, get_args(hint)[1], f"{name}[{key!r}]", dict(inside))
    elif isinstance(value, tuple):
        each = get_args(hint)
        if each[1:] == (...,):
            each = each[:1] * len(value)
        if len(each) != len(value):
            raise TypeError(f"{name} has {len(value)} parts, should have {len(each)}")
        for i, (part, part_hint) in enumerate(zip(value, each, strict=True)):
            _check_value(part, part_hint, f"{name}[{i}]", dict(inside))
    else:
        _check_array(value, hint, name, sizes)


def _check_array(array: Any, hint: Any, name: str, sizes: _Sizes) -> None:
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
