"""Other public names of the same networks' tensors, as torchvision's.

MobileNet v2 was published for torch before torchvision had it, by tonylins and by d-li14, with each block in
one flat sequence: `features.2.conv.0` to `.7`, where torchvision has `conv.0.0`, `conv.0.1`, ..., `conv.3`.
The layers, their padding, their order and their norms' epsilon (1e-5) are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

from vision_jax.pretrained.wrappers import without_first_part

T = TypeVar("T")

_FLAT = re.compile(r"features\.(\d+)\.conv\.(\d+)\.(\w+)")
# Positions in the flat sequence (2 and 5 are activations) -> torchvision's; in blocks that widen and others.
_WIDENED = {0: "0.0", 1: "0.1", 3: "1.0", 4: "1.1", 6: "2", 7: "3"}
_NOT_WIDENED = {0: "0.0", 1: "0.1", 3: "1", 4: "2"}


def namings(tensors: Mapping[str, T]) -> Iterator[dict[str, T]]:
    """The tensors by every name that may be torchvision's, likeliest first.

    These are their own names and MobileNet v2's from other layouts; then the same without a first part that
    all names share (`backbone.`, `encoder.`, `net.`), part by part. Which is right shows in an architecture's
    table.

    Args:
        tensors: by name.

    Yields:
        All of the tensors each time.
    """
    found: dict[str, T] | None = dict(tensors)
    while found:
        yield found
        renamed = mobilenet_v2_names(found)
        if renamed.keys() != found.keys():
            yield renamed
        found = without_first_part(found)


def mobilenet_v2_names(tensors: Mapping[str, T]) -> dict[str, T]:
    """MobileNet v2's tensors by torchvision's names; all others, and those that have them, as they are.

    Args:
        tensors: by the names of torchvision, tonylins (`features.18.0` is the last convolution) or d-li14
            (`conv.0`; `classifier` is a layer, not a sequence).

    Returns:
        The same tensors in the same order.
    """
    positions: dict[str, set[int]] = {}
    for name in tensors:
        if match := _FLAT.fullmatch(name):
            positions.setdefault(match[1], set()).add(int(match[2]))
    tables = {
        block: t for block, seen in positions.items() for t in (_WIDENED, _NOT_WIDENED) if seen == t.keys()
    }
    if not tables:
        return dict(tensors)
    last = max(map(int, tables)) + 1

    def renamed(name: str) -> str:
        if (match := _FLAT.fullmatch(name)) and match[1] in tables:
            return f"features.{match[1]}.conv.{tables[match[1]][int(match[2])]}.{match[3]}"
        if match := re.fullmatch(r"conv\.([01])\.(\w+)", name):
            return f"features.{last}.{match[1]}.{match[2]}"
        if match := re.fullmatch(r"classifier\.(weight|bias)", name):
            return f"classifier.1.{match[1]}"
        return name

    return {renamed(name): tensor for name, tensor in tensors.items()}
