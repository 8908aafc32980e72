"""Pages of pictures."""

import numpy as np
import pytest

from vision_jax.visualization.canvas import Cell, first_row, plot_grid


def painted(height: int, width: int, shade: int):
    """Of a color that no text has."""
    return np.full((height, width, 3), (shade, 200, 0), np.uint8)


@pytest.mark.parametrize("legend", [(), (("circle", (255, 0, 0)),)])
def test_the_first_row_of_a_page_is_all_of_it_and_nothing_else(legend):
    shades = (10, 20, 30, 40, 50)
    heights = (60, 90, 70, 70, 20)
    cells = [
        Cell(painted(height, 80, shade), f"id {shade}, jumpy")
        for shade, height in zip(shades, heights, strict=True)
    ]
    page = plot_grid(cells, 2, legend, title="Truth beside prediction")
    row = first_row(page)
    np.testing.assert_array_equal(row, page[: len(row)])
    counts = [int((row == painted(1, 1, shade)).all(-1).sum()) for shade in shades]
    assert counts[:2] == [60 * 80, 90 * 80]
    assert counts[2:] == [0, 0, 0]


def test_one_row_is_all_there_is():
    page = plot_grid([Cell(painted(30, 40, 9), "one")], 2)
    assert (first_row(page) == painted(1, 1, 9)).all(-1).sum() == 30 * 40
