"""Whether label maps hold what their classes say: at opening, of at most 64 maps a split.

Binary masks are mostly written as 0 and 255, and 255 is void: a network would learn one class, and be right
everywhere. So a training split is refused in whose maps one class alone occurs beside void; and what may be
the same in part of the maps is a warning of the logger "vision_jax": maps that hold one class and 255 where
others hold more classes, or a class that never occurs while 255 covers a tenth of the pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from vision_jax.data.annotations.label_maps import VOID
from vision_jax.data.files.listing import listed
from vision_jax.data.sources import spread
from vision_jax.types import UserError

_LOOKED_AT = 64
_MUCH = 0.1


@dataclass(frozen=True)
class MapCounts:
    """What was seen in some label maps of a split.

    Attributes:
        maps: how many were looked at.
        present: of each, the labels of the classes in it and whether 255 is.
        void: the fraction of all pixels that are 255.
    """

    maps: int
    present: Sequence[tuple[frozenset[int], bool]]
    void: float

    @classmethod
    def of(
        cls, count: int, read: Callable[[int], Int[np.ndarray, "h w"]], meaning: Mapping[int, int]
    ) -> MapCounts:
        """Looks at maps evenly spread over a split; those that cannot be read are left to their reading.

        Args:
            count: of maps.
            read: (position) -> stored indices.
            meaning: {index: label}, -1 for void.
        """
        present, pixels, void = [], 0, 0
        for position in spread(count, _LOOKED_AT):
            try:
                indices, counts = np.unique(read(position), return_counts=True)
            except UserError:
                continue
            found = dict(zip(indices.tolist(), counts.tolist(), strict=True))
            labels = frozenset(meaning[index] for index in found if meaning.get(index, -1) >= 0)
            holds_void = VOID in found and meaning.get(VOID) == -1
            present.append((labels, holds_void))
            pixels += int(counts.sum())
            void += found.get(VOID, 0) * holds_void
        return cls(len(present), present, void / max(pixels, 1))

    @property
    def occurring(self) -> frozenset[int]:
        """The labels in any of the maps."""
        return frozenset[int]().union(*(labels for labels, _ in self.present))

    @property
    def masks(self) -> int:
        """How many maps hold 255 and one class, the same in all of them; 0 if these differ."""
        beside = [labels for labels, void in self.present if void and len(labels) == 1]
        return len(beside) if len(set(beside)) == 1 else 0


def check_training_maps(counts: MapCounts, classes: Sequence[str], where: str, named: bool = True) -> None:
    """Refuses the maps of a training split, or warns of them; see the module's text.

    Args:
        counts: of its maps.
        classes: in label order.
        where: the split, for messages.
        named: whether the data name these classes; if not, many need not occur.

    Raises:
        UserError: one class alone occurs, and 255 beside it in a map.
    """
    if len(classes) > 1 and len(counts.occurring) == 1 and counts.masks:
        only = classes[min(counts.occurring)]
        raise UserError(
            f"{where}: of {len(classes)} classes, {only!r} alone occurs in the {counts.maps} label maps "
            f"looked at, and index 255, which is void, covers {counts.void:.0%}: nothing could be learned. "
            f"{_advice(classes, named)}"
        )
    warn_label_maps(counts, classes, where, named)


def warn_label_maps(counts: MapCounts, classes: Sequence[str], where: str, named: bool = True) -> None:
    """Warns where 255 may stand for a class in some maps, or where one class or none is labeled.

    Args as for `check_training_maps`.
    """
    occurring = counts.occurring
    missing = [name for label, name in enumerate(classes) if label not in occurring] if named else []
    whole = any(void and len(labels) > 1 for labels, void in counts.present)
    logger = logging.getLogger("vision_jax")
    if len(classes) < 2 or not counts.maps:
        return
    if len(occurring) > 1 and counts.masks >= _MUCH * counts.maps and not whole:
        logger.warning(
            "%s: %d of the %d label maps looked at hold one class and index 255, which is void, where "
            "others hold more classes: are they masks of 0 and 255? %s",
            where, counts.masks, counts.maps, _advice(classes, named),
        )  # fmt: skip
    elif missing and counts.void >= _MUCH:
        logger.warning(
            "%s: the %d label maps looked at have no pixel of %s, while index 255, which is void, covers "
            "%.0f %% of them: does 255 stand for a class? %s",
            where, counts.maps, listed(map(repr, missing)), 100 * counts.void,
            _advice(classes, named),
        )  # fmt: skip
    elif not occurring:
        logger.warning(
            "%s: the %d label maps looked at are void everywhere: there is nothing to learn or to measure",
            where, counts.maps,
        )  # fmt: skip
    elif len(occurring) == 1:
        logger.warning(
            "%s: of %d classes, %r alone occurs in the %d label maps looked at: there may be nothing to "
            "learn",
            where, len(classes), classes[min(occurring)], counts.maps,
        )  # fmt: skip


def _advice(classes: Sequence[str], named: bool) -> str:
    if len(classes) == 2 or not named:
        return "If 255 is the foreground of masks, add ?foreground=255 after the folder, or store it as 1"
    return "If 255 is a class, store it as that class's index"
