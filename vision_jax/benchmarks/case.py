"""What is measured: a case has inputs, our implementation and, mostly, a peer's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vision_jax.backbones import ResNetName


@dataclass(frozen=True)
class Settings:
    """How large the cases are.

    Attributes:
        backbone: of detectors.
        batch: images that a classifier takes at a time; detectors take 1.
        warped: images that a bilinear sampler warps at a time.
        segmented: images that a segmenter takes at a time.
        image: height and width in pixels of what classifiers and samplers work on.
        canvas: height and width in pixels of what detectors, segmenters and the input pipeline work on.
        proposals: an image, before and after NMS, when predicting; twice as many when training.
        rois_per_image: regions of an image that a detector learns from; a quarter as many objects are in it.
        boxes: that NMS takes, and of which IoU is computed with as many others.
        regions: that RoIAlign pools.
        cells: height and width of the feature map that it reads.
        channels: of that map, of detectors' pyramid and mask head; their box head has four times as many.
        data: what the input pipeline reads: synthetic, coco:FOLDER, ... as --data of experiments.
    """

    backbone: ResNetName = "resnet50"
    batch: int = 4
    warped: int = 16
    segmented: int = 2
    image: int = 224
    canvas: int = 512
    proposals: int = 1000
    rois_per_image: int = 512
    boxes: int = 2000
    regions: int = 512
    cells: int = 50
    channels: int = 256
    data: str = "synthetic"


@dataclass(frozen=True)
class Side:
    """One implementation of a case, ready to run.

    Attributes:
        run: runs it once, and returns when it is done.
        count: (what `run` returned) -> numbers that must be alike on both sides for times to be comparable.
        model: a peer's module, whose weights ours takes over.
    """

    run: Callable[[], Any]
    count: Callable[[Any], Mapping[str, int]] = lambda outcome: {}
    model: Any = None


class Case(ABC):
    """Something to measure.

    Attributes:
        images: that one run works on; 0 where that means nothing.
    """

    images: int = 0

    @abstractmethod
    def ours(self, peer: Any = None) -> Side:
        """Our implementation.

        Args:
            peer: the peer's module, whose weights to take; None samples random weights.
        """

    def theirs(self) -> Side | None:
        """The peer's implementation, which needs torch and torchvision; None where no peer has the same."""
        return None
