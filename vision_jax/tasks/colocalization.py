"""Co-localization: one box around what images have in common, evaluated by correct localization."""

from __future__ import annotations

from collections.abc import Sequence

from vision_jax.data.digits.located import LocatedDigits
from vision_jax.data.open import open_classification
from vision_jax.data.transforms.augment import NO_AUGMENT
from vision_jax.evaluation import CocoEvaluator, RecallEvaluator
from vision_jax.tasks.detection import boxes_kind
from vision_jax.tasks.objects import objects_task
from vision_jax.training.experiment import Classes, Evaluator, Task
from vision_jax.types import UserError


def colocalization(data: str, digit: str, length: int = 100, distractors: int = 0, canvas: int = 84) -> Task:
    """Joins images of one digit, their evaluators and their plots; training sees no label and no box.

    The model is evaluated on the images that it is trained on. `recall50` is correct localization (CorLoc):
    the fraction of images whose box has an IoU of at least 0.5 with the digit's frame.

    Args:
        data: the digits, as for `classification`.
        digit: its class name.
        length: number of images, the first ones of that digit.
        distractors: number of parts of other digits in each image.
        canvas: side of the images, in pixels.

    Returns:
        The task; data are opened when they are first needed.
    """

    def opened(classes: Classes | None) -> tuple[LocatedDigits, LocatedDigits]:
        if classes not in (None, (digit,)):
            raise UserError(f"this run was trained on {', '.join(classes)}, not on {digit}")
        source = LocatedDigits(open_classification(data)[0], digit, length, distractors, canvas)
        return source, source

    kind = boxes_kind(opened, _evaluators, "recall50")
    return objects_task(kind, (canvas, canvas), NO_AUGMENT)


def _evaluators(source: LocatedDigits, first: int | None) -> Sequence[Evaluator]:
    """Fresh evaluators of a split, or of its `first` images."""
    records = [source.record(i) for i in range(len(source) if first is None else min(first, len(source)))]
    return RecallEvaluator(records), CocoEvaluator(records, source.classes)
