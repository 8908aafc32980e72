"""Pixels of classes and weights from them: by hand, and by their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vision_jax.data.annotations.class_frequency import class_counts, median_frequency_weights


class Maps:
    """A source of label maps that notes which were read."""

    classes = ("a", "b", "c")

    def __init__(self, maps):
        self.maps, self.read = [np.array(labels, np.int32) for labels in maps], []

    def __len__(self):
        return len(self.maps)

    def name(self, index):
        return f"{index}.png"

    def image(self, index):
        raise AssertionError("counting labels needs no images")

    def labels(self, index):
        self.read.append(index)
        return self.maps[index]


def test_counting_reads_each_label_map_once_and_leaves_void_out():
    source = Maps([[[0, 0, 2], [-1, 0, -1]], [[-1]], [[1, 1]]])
    counts = class_counts(source)
    assert counts.tolist() == [[3, 0, 1], [0, 0, 0], [0, 2, 0]]
    assert counts.dtype == np.int64
    assert source.read == [0, 1, 2]


@pytest.mark.parametrize(("most", "read"), [(0, []), (1, [0]), (4, [0, 3, 6, 9]), (10, list(range(10)))])
def test_of_many_label_maps_some_are_read_evenly_spread(most, read):
    source = Maps([[[i % 3]] for i in range(10)])
    counts = class_counts(source, most)
    assert source.read == read
    assert counts.tolist() == [[int(i % 3 == k) for k in range(3)] for i in read]
    assert class_counts(Maps([]), most).shape == (0, 3)


def test_weights_worked_by_hand():
    counts = np.array([[6, 2, 0, 0], [0, 0, 4, 0], [2, 0, 0, 2]])
    # Class 0: 8 of 8 + 4; class 1: 2 of 8; class 2: 4 of 4; class 3: 2 of 4. The median is (1/2 + 2/3) / 2.
    frequency = np.array([8 / 12, 2 / 8, 4 / 4, 2 / 4])
    median = (1 / 2 + 2 / 3) / 2
    np.testing.assert_allclose(median_frequency_weights(counts), median / frequency, rtol=1e-15)
    np.testing.assert_allclose(median_frequency_weights(counts, 0.5), np.sqrt(median / frequency), rtol=1e-15)


def test_classes_without_a_pixel_weigh_nothing_and_do_not_enter_the_median():
    assert median_frequency_weights(np.array([[4, 0, 2], [4, 0, 2]])).tolist() == [0.75, 0, 1.5]
    assert median_frequency_weights(np.array([[4, 0, 2]]), power=0.0).tolist() == [1, 0, 1]
    assert median_frequency_weights(np.zeros((2, 3), int)).tolist() == [0, 0, 0]
    assert median_frequency_weights(np.zeros((0, 3), int)).tolist() == [0, 0, 0]


@given(
    arrays.arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 3)),
    st.floats(0.25, 2),
)
def test_weights_are_those_of_a_loop(counts, power):
    frequency = {}
    for k in range(counts.shape[1]):
        images = [image for image in counts if image[k]]
        if images:
            frequency[k] = sum(int(image[k]) for image in images) / sum(int(image.sum()) for image in images)
    expected = [
        (np.median(list(frequency.values())) / frequency[k]) ** power if k in frequency else 0
        for k in range(counts.shape[1])
    ]
    weights = median_frequency_weights(counts, power)
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    # Neither larger images nor more of the same ones make a difference.
    np.testing.assert_allclose(median_frequency_weights(counts * 7, power), weights, rtol=1e-12)
    np.testing.assert_allclose(median_frequency_weights(np.tile(counts, (3, 1)), power), weights, rtol=1e-12)
