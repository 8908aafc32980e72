"""Charts: curves of a run and summaries of a split. What is measured is how much of a color there is."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from vision_jax.types import stack_pictures
from vision_jax.visualization import (
    plot_box_sizes,
    plot_class_counts,
    plot_curves,
    plot_image_sizes,
    side_by_side,
)
from vision_jax.visualization.curves import _series, smooth
from vision_jax.visualization.plots import LINES


def inked(picture, color):
    wanted = np.round(255 * np.array(to_rgb(color)))
    return int((np.abs(picture.astype(int) - wanted).max(axis=-1) <= 2).sum())


def test_smoothing_is_the_mean_of_neighbors():
    np.testing.assert_allclose(smooth(np.array([0.0, 3.0, 6.0, 0.0])), [1.5, 3, 3, 3])
    np.testing.assert_allclose(smooth(np.array([5.0])), [5])
    np.testing.assert_allclose(smooth(np.full(200, 0.7)), 0.7)
    spike = np.zeros(400)
    spike[200] = 21
    assert np.count_nonzero(smooth(spike) > 0.5) == 21


def test_rows_may_have_gaps():
    rows = [
        {"step": 20, "train/loss": 1.0, "val/AP": math.nan},
        {"step": 10, "train/loss": "2.5", "val/AP": ""},
        {"step": 30, "train/loss": math.inf, "val/AP": 0.25, "note": "text"},
        {"train/loss": 9.0},
    ]
    series = _series(rows)
    np.testing.assert_array_equal(series["train/loss"], [[10, 20], [2.5, 1.0]])
    np.testing.assert_array_equal(series["val/AP"], [[30], [0.25]])
    assert set(series) == {"train/loss", "val/AP"}


@pytest.fixture(scope="module")
def rows():
    return [
        {
            "step": step,
            "train/loss": 2 * math.exp(-step / 50),
            "train/boxes": math.exp(-step / 50),
            "train/classes": math.exp(-step / 50),
            "train/learning_rate": 0.02,
            "time/examples_per_second": 3.0,
        }
        | ({"val/loss": 0.5, "val/AP": step / 200, "val/AP/small": 0.1} if step % 50 == 0 else {})
        for step in range(10, 201, 10)
    ]


def test_curves_show_training_and_validation(rows):
    whole = plot_curves(rows)
    height, width = whole.shape[:2]
    assert width > height > 600
    without = plot_curves([{k: v for k, v in r.items() if not k.startswith("val/")} for r in rows])
    loss, metrics = whole[: height // 2, : width // 2], whole[: height // 2, width // 2 :]
    assert inked(loss, LINES[0]) > 500
    assert inked(loss, LINES[1]) > 500
    assert inked(metrics, LINES[0]) > 500
    assert inked(without[: height // 2, : width // 2], LINES[1]) == 0
    assert inked(without[: height // 2, width // 2 :], LINES[0]) == 0


def test_curves_of_a_run_that_has_just_begun(rows):
    assert inked(plot_curves(rows[:1]), LINES[0]) > 50
    assert inked(plot_curves([]), LINES[0]) == 0


def test_bars_are_as_long_as_the_counts():
    one, two = (
        plot_class_counts(np.array([300, 100]), ("a", "b")),
        plot_class_counts(np.array([300, 300]), ("a", "b")),
    )
    assert inked(one, LINES[0]) / inked(two, LINES[0]) == pytest.approx(400 / 600, rel=0.02)
    empty = plot_class_counts(np.zeros(2, int), ("a", "b"))
    assert inked(empty, LINES[0]) < 100
    many = plot_class_counts(np.arange(80), [f"class {k}" for k in range(80)])
    assert many.shape[0] < 1100


def test_a_chart_of_box_sizes_has_bars_where_boxes_are():
    boxes = np.array([[0, 0, 30, 30]] * 50 + [[0, 0, 200, 50]] * 50, np.float32)
    picture = plot_box_sizes(boxes)
    # Two bars of one height in each half; a few boxes more elsewhere leave less for them.
    assert inked(picture, LINES[0]) == pytest.approx(2 * inked(plot_box_sizes(boxes[:50]), LINES[0]), rel=0.1)
    assert inked(picture, LINES[2]) > 1000
    assert inked(plot_box_sizes(np.zeros((0, 4), np.float32)), LINES[0]) == 0


def test_a_chart_of_image_sizes_has_marks_where_images_are():
    assert plot_image_sizes(np.zeros((0, 2), int)).shape[2] == 3
    few, many = (plot_image_sizes(np.array([[480, 640]] * n)) for n in (1, 5))
    assert (few != many).any()


def test_pictures_side_by_side_and_stacked():
    a, b = np.zeros((10, 20, 3), np.uint8), np.full((30, 5, 3), 7, np.uint8)
    stacked = stack_pictures([a, b], gap=4)
    assert stacked.shape == (44, 20, 3)
    assert (stacked[:10] == 0).all()
    assert (stacked[14:, :5] == 7).all()
    assert (stacked[10:14] == 255).all()
    beside = side_by_side([a, b], gap=4)
    assert beside.shape == (30, 29, 3)
    assert (beside[:, 24:] == 7).all()
    assert (beside[10:, :20] == 255).all()
