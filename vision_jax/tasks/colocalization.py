"""Co-localization: one box around what images have in common, evaluated by correct localization."""

from __future__ import annotations

from collections.abc import Sequence

from vision_jax.data.digits.located import LocatedDigits
from vision_jax.data.open import open_classification
from vision_jax.data.transforms.augment import NO_AUGMENT
from vision_jax.evaluation import CocoEvaluator, RecallEvaluator
from vision_jax.tasks.detection import DetectionTask
from vision_jax.tasks.images import Sources
from vision_jax.training.experiment import Evaluator
from vision_jax.types import DetectionSpec, UserError


class ColocalizationTask(DetectionTask):
    """Images of one digit; training sees no label and no box.

    The model is evaluated on the images that it is trained on. `recall50` is correct localization (CorLoc):
    the fraction of images whose box has an IoU of at least 0.5 with the digit's frame.

    Args:
        data: the digits, as for `ClassificationTask`.
        digit: its class name.
        length: number of images, the first ones of that digit.
        distractors: number of parts of other digits in each image.
        canvas: side of the images, in pixels.
    """

    metric = "recall50"

    def __init__(
        self, data: str, digit: str, length: int = 100, distractors: int = 0, canvas: int = 84
    ) -> None:
        super().__init__(data, (canvas, canvas), NO_AUGMENT)
        self.digit = digit
        self.length = length
        self.distractors = distractors

    def open_sources(self, classes: tuple[str, ...] | None) -> Sources:
        """The images, as both splits."""
        if classes not in (None, (self.digit,)):
            raise UserError(f"this run was trained on {', '.join(classes)}, not on {self.digit}")
        assert self.canvas is not None
        digits = open_classification(self.data)[0]
        source = LocatedDigits(digits, self.digit, self.length, self.distractors, self.canvas[0])
        return source, source

    def evaluators(self, source: LocatedDigits, spec: DetectionSpec) -> Sequence[Evaluator]:
        """Recall and average precision."""
        records = [source.record(i) for i in range(len(source))]
        return RecallEvaluator(records), CocoEvaluator(records, spec.classes)
