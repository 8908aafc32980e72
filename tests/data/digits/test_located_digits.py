"""Digits somewhere in larger images: where their boxes say, alike each time, with parts of others about."""

import numpy as np
import pytest

from vision_jax.data.digits.located import LocatedDigits
from vision_jax.data.formats.idx import IdxClassification
from vision_jax.data.sources import DetectionSource
from vision_jax.types import UserError


def frames(count: int = 40) -> IdxClassification:
    """Digit d is a full frame of value 10 * d + 20."""
    labels = np.arange(count) % 10
    images = np.broadcast_to((10 * labels + 20)[:, None, None], (count, 28, 28)).astype(np.uint8)
    return IdxClassification(images, labels, tuple("0123456789"))


def test_the_box_is_the_frame():
    source = LocatedDigits(frames(), "3", 4)
    assert isinstance(source, DetectionSource)
    assert (len(source), source.classes) == (4, ("3",))
    corners = set()
    for i in range(4):
        record, image = source.record(i), source.image(i)
        assert image.shape == (record.height, record.width, 3) == (84, 84, 3)
        x1, y1, x2, y2 = record.boxes[0]
        assert (x2 - x1, y2 - y1) == pytest.approx((28, 28))
        assert min(x1, y1) >= 0
        assert max(x2, y2) <= 84
        inner = image[int(np.ceil(y1)) + 1 : int(y2) - 1, int(np.ceil(x1)) + 1 : int(x2) - 1]
        assert (inner == 50).all()
        # Ink outside the frame is at most what bilinear reading smears over its border.
        total = image[..., 0].astype(float).sum()
        assert total == pytest.approx(50 * 28 * 28, rel=0.02)
        corners.add((x1, y1))
    assert len(corners) == 4


def test_the_same_images_every_time():
    one, two = (LocatedDigits(frames(), "7", 3, distractors=5) for _ in range(2))
    for i in range(3):
        np.testing.assert_array_equal(one.image(i), two.image(i))
        np.testing.assert_array_equal(one.record(i).boxes, two.record(i).boxes)


def test_distractors_are_parts_of_any_digits():
    source = LocatedDigits(frames(), "0", 4, distractors=16)
    values = np.unique(np.concatenate([source.image(i).ravel() for i in range(4)]))
    assert np.isin(np.arange(20, 120, 10), values).sum() > 5


@pytest.mark.parametrize(("digit", "length", "said"), [("x", 1, "digit is x"), ("3", 5, "4 images of 3")])
def test_what_is_not_there_is_named(digit, length, said):
    with pytest.raises(UserError, match=said):
        LocatedDigits(frames(), digit, length)
