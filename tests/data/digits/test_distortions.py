"""Distorted digits: where pixels go, by hand; what is sampled, by its statistics; the same from a seed."""

import pickle

import numpy as np
import pytest

from vision_jax.data.digits.distortions import (
    DISTORTIONS,
    FRAME,
    Distort,
    Distortion,
    distort,
    framed,
)
from vision_jax.data.examples import ClassificationExample
from vision_jax.data.fields.image import Image
from vision_jax.data.formats.idx import IdxClassification
from vision_jax.types import UserError


def spot(row: int, column: int, size: int = 1) -> np.ndarray:
    digit = np.zeros((FRAME, FRAME, 3), np.uint8)
    digit[row : row + size, column : column + size] = 255
    return digit


def center_of_mass(image: np.ndarray) -> np.ndarray:
    """(x, y) in pixels from the corner."""
    mass = image[..., 0].astype(np.float64)
    y, x = np.mgrid[: len(mass), : mass.shape[1]] + 0.5
    return np.array([(x * mass).sum(), (y * mass).sum()]) / mass.sum()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def source(count: int = 20, size: int = FRAME) -> IdxClassification:
    images = rng(9).integers(0, 256, (count, size, size)).astype(np.uint8)
    return IdxClassification(images, np.arange(count) % 10, tuple("0123456789"))


def test_nothing_drawn_leaves_the_digit_in_the_middle():
    digit = rng().integers(0, 256, (FRAME, FRAME, 3)).astype(np.uint8)
    image, middle = distort(digit, Distortion(40), rng())
    np.testing.assert_array_equal(image[6:34, 6:34], digit)
    assert image.sum() == digit.astype(np.int64).sum()
    assert middle.tolist() == [20, 20]


@pytest.mark.parametrize("seed", range(5))
def test_a_place_is_where_it_says_and_the_frame_inside(seed):
    digit = spot(10, 4, 4)  # its middle is at (6, 12): (-8, -2) from the frame's
    image, middle = distort(digit, DISTORTIONS["T"], rng(seed))
    np.testing.assert_allclose(center_of_mass(image) - middle, [-8, -2], atol=0.02)
    assert (np.abs(middle - 30) <= 16).all()


def test_a_turn_keeps_distances_from_the_middle_and_spreads_over_its_range():
    """A spot to the right of the middle goes around it by the angle sampled."""
    digit = spot(13, 22, 2)  # its middle is at (23, 14)
    angles = []
    for seed in range(300):
        offset = center_of_mass(distort(digit, DISTORTIONS["R"], rng(seed))[0]) - 14
        assert np.hypot(*offset) == pytest.approx(9, abs=0.15)
        angles.append(np.rad2deg(np.arctan2(offset[1], offset[0])))
    assert -91 < min(angles) < -80
    assert 80 < max(angles) < 91
    assert np.std(angles) == pytest.approx(180 / np.sqrt(12), rel=0.1)


def test_a_scale_spreads_over_its_range():
    digit = spot(13, 22, 2)
    radii = [
        np.hypot(*(center_of_mass(image) - middle)) / 9
        for image, middle in (distort(digit, DISTORTIONS["RTS"], rng(seed)) for seed in range(300))
    ]
    assert 0.68 < min(radii) < 0.73
    assert 1.17 < max(radii) < 1.22
    assert np.mean(radii) == pytest.approx(0.95, abs=0.03)


def test_corners_move_as_far_as_they_are_said_to_and_never_fold_the_frame():
    """The frame's middle is where its diagonals cross: each moves by the mean of two corners' moves."""
    digit, whole = spot(12, 12, 4), spot(0, 0, FRAME)
    moved = []
    for seed in range(400):
        image, _ = distort(digit, DISTORTIONS["P"], rng(seed))
        if image.any():  # one in some hundred is seen from so far aside that its middle is gone
            moved.append(center_of_mass(image) - 21)
        assert distort(whole, DISTORTIONS["P"], rng(seed))[0].any()
    assert len(moved) > 395
    assert np.std(moved) == pytest.approx(5 / np.sqrt(2), rel=0.1)
    assert np.abs(np.mean(moved, 0)).max() < 0.5


def test_beyond_a_horizon_there_is_nothing():
    """Corners moved so far that the horizon crosses the canvas: no digit shows up behind it, no error."""
    digit = np.full((FRAME, FRAME, 3), 255, np.uint8)
    for seed in range(200):
        image, _ = distort(digit, Distortion(42, corners=14), rng(seed))
        assert image.dtype == np.uint8
        assert (image < 128).any() or image.all()


def test_bending_moves_each_position_by_its_own_sample():
    """By the spread of the control points where one is, less between; positions far apart independently."""
    digits = [spot(8, 8, 2), spot(18, 18, 2)]
    moved = np.array(
        [
            [center_of_mass(distort(digit, DISTORTIONS["E"], rng(s))[0]) for digit in digits]
            for s in range(300)
        ]
    )
    moved -= moved.mean(0)
    assert 0.7 < moved.std() < 1.6
    x = moved[..., 0]
    assert abs(np.corrcoef(x[:, 0], x[:, 1])[0, 1]) < 0.4


def test_distractors_are_parts_of_other_digits_and_cover_nothing():
    blank = np.zeros((FRAME, FRAME, 3), np.uint8)
    white = np.full((FRAME, FRAME, 3), 200, np.uint8)
    image, _ = distort(blank, DISTORTIONS["TC"], rng(1), lambda _: white)
    assert 0 < (image[..., 0] == 200).sum() <= 6 * 36
    assert set(np.unique(image)) == {0, 200}
    bright = spot(4, 4, 20)
    with_parts, _ = distort(bright, DISTORTIONS["TC"], rng(1), lambda _: white)
    alone, _ = distort(bright, Distortion(60, anywhere=True), rng(1))
    assert (with_parts >= alone).all()


def test_distractors_need_other_digits():
    with pytest.raises(ValueError, match="another"):
        distort(np.zeros((28, 28, 3), np.uint8), DISTORTIONS["TC"], np.random.default_rng(0))


def test_digits_for_evaluation_are_always_the_same_and_those_trained_on_never():
    digits = source()
    change = Distort(DISTORTIONS["TC"], digits)
    example = ClassificationExample(3, Image.original(digits.image(3)), 3)
    evaluated = change.for_evaluation(example).image.pixels
    again = pickle.loads(pickle.dumps(change)).for_evaluation(example)
    np.testing.assert_array_equal(evaluated, again.image.pixels)
    other = change.for_evaluation(ClassificationExample(4, Image.original(digits.image(3)), 3))
    assert (evaluated != other.image.pixels).any()
    prepared = change.prepare(example)
    one, same, another = (change(prepared, rng(seed)).image.pixels for seed in (0, 0, 1))
    assert (one != another).any()
    np.testing.assert_array_equal(one, same)


def test_digits_of_other_sizes_fill_the_frame():
    assert framed(np.full((8, 8, 3), 7, np.uint8)).shape == (FRAME, FRAME, 3)
    assert (framed(np.full((8, 8, 3), 7, np.uint8)) == 7).all()


def test_a_canvas_too_small_is_refused():
    with pytest.raises(UserError, match="canvas is 20"):
        Distortion(20)
