"""Co-localization's data and evaluators: frames found are all right, boxes elsewhere all wrong."""

import gzip

import numpy as np
import pytest

from vision_jax.tasks import ColocalizationTask
from vision_jax.types import Detections, DetectionSpec, UserError


@pytest.fixture
def folder(tmp_path):
    """MNIST's four files, ten images of each digit."""
    rng = np.random.default_rng(0)
    for name in ("train", "t10k"):
        images = rng.integers(0, 256, (100, 28, 28)).astype(np.uint8)
        labels = (np.arange(100) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            path = tmp_path / f"{name}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(header + array.tobytes()))
    return tmp_path


def evaluated(data, move: float) -> dict[str, float]:
    evaluators = data.evaluators()
    for batch in data.once("val", 4):
        ones = np.ones(batch.boxes.shape[:2], np.float32)
        boxes = np.clip(np.asarray(batch.boxes) + move, 0, 84)
        found = Detections(boxes=boxes, scores=ones, labels=np.int32(ones - 1), valid=ones > 0)
        for evaluator in evaluators:
            evaluator.add(batch, found)
    return {name: value for e in evaluators for name, value in e.report().metrics.items()}


def test_frames_are_right_and_boxes_elsewhere_are_not(folder):
    data = ColocalizationTask(f"idx:{folder}", "4", length=10).open(None)
    assert data.spec.classes == ("4",)
    right = evaluated(data, 0)
    assert (right["recall50"], right["AP50"]) == (1, 1)
    assert evaluated(data, 20)["recall50"] == 0
    batch = next(data.train(10, 0, 0))
    assert batch.image.shape == (10, 84, 84, 3)
    assert sorted(batch.id) == list(range(10))


def test_another_digit_than_the_runs_is_refused(folder):
    task = ColocalizationTask(f"idx:{folder}", "4", length=10)
    with pytest.raises(UserError, match="trained on 5, not on 4"):
        task.open(DetectionSpec(("5",), (84, 84)))
