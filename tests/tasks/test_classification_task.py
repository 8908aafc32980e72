"""Classification, from a data set's name to figures, with an oracle as the model."""

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.digits.distortions import DISTORTIONS
from vision_jax.data.transforms.augment import Augment
from vision_jax.tasks import ClassificationTask
from vision_jax.types import Classification, ClassificationSpec, UserError


def oracle(labels: np.ndarray, k: int) -> Classification:
    probabilities = np.eye(k, dtype=np.float32)[np.maximum(labels, 0)]
    return Classification(labels=np.maximum(labels, 0), probabilities=probabilities)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of portrait images, told apart by their brightness: bear is dark, cat is bright."""
    root = tmp_path_factory.mktemp("animals")
    for split, count in (("train", 3), ("val", 2)):
        for name, value in (("bear", 20), ("cat", 220)):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (30, 40), (value, value, i)).save(root / split / name / f"{i}.png")
    return root


def test_the_truth_scores_1_and_its_opposite_0(folder):
    data = ClassificationTask(f"folder:{folder}").open(None)
    for shift, expected in ((0, 1.0), (1, 0.0)):
        (evaluator,) = data.evaluators()
        for batch in data.once("val", 3):
            evaluator.add(batch, oracle((batch.labels + shift) % 2, 2))
        assert evaluator.report().metrics["accuracy"] == expected


def test_images_keep_their_size_and_orientation(folder):
    task = ClassificationTask(f"folder:{folder}")
    assert task.open(None).spec.canvas == (40, 30)
    assert next(task.open(None).train(2, 0, 0)).image.shape == (2, 40, 30, 3)
    assert ClassificationTask("digits").open(None).spec.canvas == (8, 8)


def test_labels_follow_the_names_of_a_runs_classes(folder):
    data = ClassificationTask(f"folder:{folder}").open(ClassificationSpec(("cat", "cow", "bear"), (40, 30)))
    assert data.spec.classes == ("cat", "cow", "bear")
    for batch in data.once("val", 4):
        brightness = batch.image.mean((1, 2, 3))
        np.testing.assert_array_equal(batch.labels, np.where(brightness > 100, 0, 2))
    with pytest.raises(UserError, match="cat"):
        ClassificationTask(f"folder:{folder}").open(ClassificationSpec(("bear", "cow"), (40, 30)))


def test_overfitting_takes_the_first_images():
    few = ClassificationTask("digits").open(None).overfit(8)
    assert set(next(few.train(16, 0, 0)).id.tolist()) == set(range(8))
    (batch,) = few.once("val", 8)
    assert batch.id.tolist() == list(range(8))


def test_images_are_fitted_and_answers_name_the_best_classes():
    task, spec = ClassificationTask("folder:/there/is/nothing"), ClassificationSpec(("bear", "cat"), (40, 30))
    images = [np.full((80, 60, 3), 9, np.uint8), np.full((80, 20, 3), 9, np.uint8)]
    batch = task.prepare(images, [5, 6], spec)
    assert batch.image.shape == (2, 40, 30, 3)
    assert (batch.image[0] == 9).all()
    assert (batch.image[1, :, :10] == 9).all()
    assert (batch.image[1, :, 10:] == 0).all()
    predictions = Classification(
        labels=np.array([1, 0]),  # type: ignore[arg-type]
        probabilities=np.array([[0.25, 0.75], [0.5, 0.5]]),  # type: ignore[arg-type]
    )
    answers = task.to_json(batch, predictions, spec)
    assert answers[0] == [{"image_id": 5, "category": "cat", "best": {"cat": 0.75, "bear": 0.25}}]
    assert answers[1] == [{"image_id": 6, "category": "bear", "best": {"bear": 0.5, "cat": 0.5}}]


def test_a_summary_counts_images(folder, tmp_path):
    report = ClassificationTask(f"folder:{folder}").open(None).summary()
    assert report.metrics["train/images"] == 6
    assert report.metrics["val/images"] == 4
    assert report.tables["classes.md"].splitlines()[2:] == [
        "| bear | 3 | 2 |",
        "| cat | 3 | 2 |",
        "| all | 6 | 4 |",
    ]
    report.write(tmp_path)
    assert (tmp_path / "data.png").stat().st_size > 1000


def test_distorted_digits_are_fixed_in_evaluation_and_new_at_each_training_step():
    task = ClassificationTask("digits", distortion=DISTORTIONS["RTS"])
    assert task.open(None).spec.canvas == (42, 42)
    data = task.open(None)
    (once, *_), (again, *_) = data.once("val", 8), data.once("val", 8)
    assert once.image.shape == (8, 42, 42, 3)
    np.testing.assert_array_equal(once.image, again.image)
    few = data.overfit(2)
    seen = [batch.image[batch.id == 0] for batch, _ in zip(few.train(8, 0, 0), range(2), strict=False)]
    assert len({image.tobytes() for images in seen for image in images}) >= 4
    for wrong in ({"canvas": (28, 28)}, {"augment": Augment(hflip=0.5)}):
        with pytest.raises(UserError, match="leave out"):
            ClassificationTask("digits", distortion=DISTORTIONS["R"], **wrong)
