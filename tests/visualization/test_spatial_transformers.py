"""Grids on images, by hand; films that can be read back."""

import numpy as np
from PIL import Image

from vision_jax.ops.sampling import target_points
from vision_jax.visualization import plot_sampling_grid, plot_warps, save_gif
from vision_jax.visualization.canvas import WRONG

BLACK = np.zeros((8, 8, 3), np.uint8)


def marked(picture) -> np.ndarray:
    """Pixels that a line covers by half or more."""
    return picture[..., 0] > WRONG[0] / 2


def test_lines_are_where_pixels_are_read():
    """The left half of the image, at twice the height's scale: five lines each way, none on the right."""
    points = target_points((9, 9)) * [0.5, 1] - [0.5, 0]
    lines = marked(plot_sampling_grid(BLACK, points, scale=16))
    assert lines.shape == (128, 128)
    # Lines 0, 2, 4, 6 and 8 of the grid: at (i + 1/2) / 9 of 64 pixels across, and of 128 down.
    positions = (np.arange(0, 9, 2) + 0.5) / 9
    columns = np.flatnonzero(lines[40] & lines[41])
    rows = np.flatnonzero(lines[:, 25] & lines[:, 26])
    for found, extent in ((columns, 64), (rows, 128)):
        assert np.abs(found[:, None] - extent * positions).min(0).max() <= 1
        assert np.abs(found[:, None] - extent * positions).min(1).max() <= 4.5  # half of the thick one
    assert not lines[:, 66:].any()
    assert lines[:, :60].sum(1).argmax() < 16  # the thick line is the top


def test_a_turned_grid_says_which_side_becomes_the_top():
    points = target_points((9, 9))[..., ::-1] * [1, -1]  # a quarter turn: the left side comes to the top
    lines = marked(plot_sampling_grid(BLACK, points, scale=16))
    assert lines.sum(0).argmax() < 16


def test_points_that_are_nowhere_are_left_out():
    points = target_points((5, 5)).copy()
    points[2, 2] = np.nan
    points[0] = 1e9
    whole = marked(plot_sampling_grid(BLACK, target_points((5, 5)), scale=16))
    some = marked(plot_sampling_grid(BLACK, points, scale=16))
    assert 0 < some.sum() < whole.sum()
    assert not (some & ~whole).any()


def test_what_is_read_is_plotted_below():
    warped = np.stack([np.full((4, 4, 1), 1.0), np.full((4, 4, 1), 0.5)])
    points = np.stack([target_points((4, 4))] * 2)
    picture = plot_warps([BLACK, BLACK], points, warped, ("one", "two"), scale=8)
    gray, black = (np.argwhere((picture == value).all(-1)) for value in (128, 0))
    assert len(gray) == 32 * 32
    assert gray[:, 0].min() > black[:, 0].max()
    assert gray[:, 1].min() > black[:, 1].mean()


def test_a_film_can_be_read_back(tmp_path):
    frames = [np.full((6, 8, 3), value, np.uint8) for value in (0, 120, 240)]
    save_gif(tmp_path / "new" / "film.gif", frames, seconds=0.05)
    with Image.open(tmp_path / "new" / "film.gif") as film:
        assert (film.n_frames, film.size, film.info["duration"], film.info["loop"]) == (3, (8, 6), 50, 0)
        film.seek(2)
        np.testing.assert_allclose(np.asarray(film.convert("RGB")), frames[2], atol=4)
