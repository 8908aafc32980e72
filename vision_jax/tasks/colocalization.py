"""Co-localisation: one box around what images have in common, judged by how many are right."""

from __future__ import annotations

from vision_jax.data.digits.located import LocatedDigits
from vision_jax.data.open import open_classification
from vision_jax.data.transforms.augment import NO_AUGMENT
from vision_jax.evaluation import CocoEvaluator, RecallEvaluator
from vision_jax.tasks.detection import boxes_kind
from vision_jax.tasks.objects import objects_task
from vision_jax.training.experiment import Classes, Task
from vision_jax.types import UserError


def colocalization(data: str, digit: str, length: int = 100, distractors: int = 0, canvas: int = 84) -> Task:
    """Joins images of one digit, their judges and their pictures; no label says which, no box says where.

    Images are judged on which the model is trained. `recall50` is the share of those whose box has an IoU of
    at least 0.5 with the digit's frame, called correct localisation.

    Args:
        data: the digits, as for `classification`.
        digit: which.
        length: images, the first so many of that digit.
        distractors: parts of any digits in each image.
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


def _evaluators(source: LocatedDigits, first: int | None):
    records = [source.record(i) for i in range(len(source) if first is None else min(first, len(source)))]
    return RecallEvaluator(records), CocoEvaluator(records, source.classes)
