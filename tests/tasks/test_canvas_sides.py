"""The canvas that is resolved from data."""

import numpy as np
import pytest

from vision_jax.tasks.canvas import check_sides, derived_sides, oriented_canvas, sampled_sizes
from vision_jax.types import UserError


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(256, 256)] * 3, (256, 256)),
        ([(480, 640)] * 3, (512, 384)),
        ([(640, 480)] * 3, (512, 384)),
        ([(180, 240)] * 3, (256, 192)),
        ([(1000, 2000)] * 3, (512, 256)),
        ([(10, 12)] * 3, (32, 32)),
        ([(300, 400), (300, 400), (50, 900)], (384, 288)),
    ],
)
def test_median_shape_at_most_512_long_in_multiples_of_32(sizes, expected):
    assert derived_sides(np.array(sizes, np.int32)) == expected


def test_small_images_keep_their_size_where_any_will_do():
    assert derived_sides(np.array([(28, 28)] * 5, np.int32), 224, 1) == (28, 28)
    assert derived_sides(np.array([(8, 9)] * 5, np.int32), 224, 1) == (9, 8)


def test_an_empty_split_is_refused():
    with pytest.raises(UserError, match="empty"):
        derived_sides(np.zeros((0, 2), np.int32))


@pytest.mark.parametrize("canvas", [(240, 320), (0, 0), (32, 0)])
def test_impossible_sides_are_refused(canvas):
    with pytest.raises(UserError, match=f"canvas {canvas[0]} {canvas[1]}"):
        check_sides(canvas)


def test_the_canvas_is_oriented_as_most_images_are():
    wide, high = (3, 4), (4, 3)
    assert oriented_canvas(np.array([wide, wide, high], np.int32), (64, 32)) == (32, 64)
    assert oriented_canvas(np.array([high, wide, high], np.int32), (64, 32)) == (64, 32)
    assert oriented_canvas(np.array([(5, 5)], np.int32), (64, 32)) == (32, 64)


class Source:
    """Images whose height is their position, from 1."""

    def __init__(self, count):
        self._count = count
        self.read = 0

    def __len__(self):
        return self._count

    def image(self, index):
        self.read += 1
        return np.zeros((index + 1, 2, 3), np.uint8)


def test_sizes_are_sampled_from_end_to_end():
    source = Source(1000)
    sizes = sampled_sizes(source)
    assert source.read == 64
    assert (sizes[0, 0], sizes[-1, 0]) == (1, 1000)
    np.testing.assert_array_equal(sampled_sizes(Source(3)), [(1, 2), (2, 2), (3, 2)])
    assert sampled_sizes(Source(0)).shape == (0, 2)
