"""Pairs of digits and their sums: labels that fit the image, fixed in evaluation, new at each step."""

import numpy as np
import pytest

from vision_jax.data.digits.distortions import Distort, Distortion
from vision_jax.data.digits.sums import DistortSum
from vision_jax.data.examples import ClassificationExample
from vision_jax.data.fields.image import Image
from vision_jax.data.formats.idx import IdxClassification
from vision_jax.tasks import AdditionTask
from vision_jax.types import Classification, ClassificationSpec, UserError

UNDISTORTED = Distortion(32)


def gray_digits(count: int) -> IdxClassification:
    """Digit d is a frame of value 10 * d + 20."""
    labels = np.arange(count) % 10
    images = np.broadcast_to((10 * labels + 20)[:, None, None], (count, 28, 28)).astype(np.uint8)
    return IdxClassification(images, labels, tuple("0123456789"))


def shown(image) -> list[int]:
    """The two digits of an image of gray frames."""
    return [(int(image[16, 16, channel]) - 20) // 10 for channel in (0, 1)]


def test_the_label_is_the_sum_of_what_the_two_channels_show():
    source = gray_digits(50)
    pair = DistortSum(Distort(UNDISTORTED, source))
    seen = set()
    for seed in range(60):
        example = pair.prepare(ClassificationExample(7, Image.original(source.image(7)), 7))
        summed = pair(example, np.random.default_rng(seed))
        first, second = shown(summed.image.pixels)
        assert (first, summed.label, summed.id) == (7, 7 + second, 7)
        assert not summed.image.pixels[..., 2].any()
        seen.add(second)
    assert len(seen) == 10


def test_each_digit_moves_by_itself():
    source = gray_digits(10)
    pair = DistortSum(Distort(Distortion(60, anywhere=True), source))
    example = pair.prepare(ClassificationExample(3, Image.original(source.image(3)), 3))
    image = pair(example, np.random.default_rng(0)).image.pixels
    first, second = (np.argwhere(image[..., channel] > 0).mean(0) for channel in (0, 1))
    assert np.abs(first - second).max() > 2


def test_evaluation_pairs_are_always_the_same():
    source = gray_digits(30)
    pair = DistortSum(Distort(Distortion(42, turn=45, anywhere=True), source))
    example = ClassificationExample(4, Image.original(source.image(4)), 4)
    one, two = pair.for_evaluation(example), pair.for_evaluation(example)
    np.testing.assert_array_equal(one.image.pixels, two.image.pixels)
    assert one.label == two.label


def test_other_classes_than_digits_cannot_be_added():
    letters = IdxClassification(np.zeros((2, 28, 28), np.uint8), np.arange(2), ("a", "b"))
    with pytest.raises(UserError, match="sums need the classes 0 to 9, not a, b"):
        DistortSum(Distort(UNDISTORTED, letters))


def test_the_task_from_data_to_figures():
    task = AdditionTask("digits", UNDISTORTED)
    data = task.open(None)
    assert data.spec.classes == tuple(str(i) for i in range(19))
    (evaluator,) = data.evaluators()
    for batch in data.once("val", 100):
        truth = np.where(batch.example_valid, batch.labels, 0)
        evaluator.add(batch, Classification(truth, np.eye(19, dtype=np.float32)[truth]))  # type: ignore
    assert evaluator.report().metrics["accuracy"] == 1
    one, two = data.train(64, 0, 0), data.train(64, 0, 0)
    np.testing.assert_array_equal(next(one).image, next(two).image)
    report = data.summary()
    assert report.metrics["canvas/long"] == 32
    assert "| 18 |" in report.tables["classes.md"]
    with pytest.raises(UserError, match="not on sums"):
        task.open(ClassificationSpec(("a", "b"), (32, 32)))
    few = data.overfit(5)
    assert set(next(few.train(16, 0, 0)).id.tolist()) == set(range(5))
    (batch,) = few.once("val", 8)
    assert batch.example_valid.sum() == 5
