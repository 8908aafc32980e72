"""How many proposals does a detector need at test time?  (Ren et al. 2015, table 2: the top 300.)

    vision-jax sweep experiments/detection/proposals --workers 2

One training a seed; everything else is asked of its checkpoint: AP and time against the number of proposals,
AP against the NMS threshold of detections, and the fraction of objects that the RPN's own boxes cover. The
paper has a ZF net on VOC 2007. Measured: result.md.
"""

from __future__ import annotations

from dataclasses import fields, replace

import flax.linen as nn

from vision_jax.models.detection.two_stage import FasterRCNN
from vision_jax.recipes import faster_rcnn, recipe_with
from vision_jax.sweeps import Claim, PaperFigures, grid
from vision_jax.training.experiment import Evaluation, Experiment, TrainConfig
from vision_jax.types import DetectionBatch, Detections

COUNTS = (10, 30, 100, 300, 1000)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)


class ProposalsAlone(FasterRCNN):
    """Predicts the RPN's boxes as they are, all of the first class; its recall is what to look at."""

    def predict(self, batch: DetectionBatch) -> Detections:
        scored = self.score_anchors(self.features(batch), batch)
        found = self.propose(scored, batch.size, self.test_proposals)
        labels = found.valid.astype("int32") - 1
        return Detections(boxes=found.boxes, scores=found.scores, labels=labels, valid=found.valid)


def _proposals_alone(model: nn.Module, count: int) -> ProposalsAlone:
    settings = {f.name: getattr(model, f.name) for f in fields(model) if f.name not in ("parent", "name")}
    return ProposalsAlone(**{**settings, "test_proposals": (1000, count)})


def _with_evaluations(experiment: Experiment) -> Experiment:
    """The experiment, evaluated at every number of proposals and every NMS threshold."""
    return replace(
        experiment,
        evaluations={
            **{f"proposals={n}": Evaluation(lambda m, n=n: m.copy(test_proposals=(1000, n))) for n in COUNTS},
            **{f"nms={t}": Evaluation(lambda m, t=t: m.copy(nms_threshold=t)) for t in THRESHOLDS},
            **{f"rpn={n}": Evaluation(lambda m, n=n: _proposals_alone(m, n)) for n in COUNTS},
        },
    )


experiment = recipe_with(
    faster_rcnn,
    _with_evaluations,
    rois_per_image=64,
    train=TrainConfig(
        steps=640,
        batch_size=2,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=60,
    ),
)

SWEEP = grid(seed=range(3))

METRICS = ("AP", "recall", "AP50")

PAPER = [
    PaperFigures("Ren et al. 2015, table 2", {"evaluation": f"proposals={count}"}, {"AP50": figure})
    for count, figure in ((100, 0.551), (300, 0.568))
]

CLAIMS = [
    Claim(text, "AP50", {"evaluation": f"proposals={fewer}"}, {"evaluation": f"proposals={more}"})
    for text, fewer, more in (
        ("300 proposals give more than 100", 100, 300),
        ("1000 give more than 300", 300, 1000),
    )
]
