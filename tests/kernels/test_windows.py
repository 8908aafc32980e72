"""Kernels of windows beside plain definitions that JAX differentiates, of one image and of a batch."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.kernels import window_samples, window_sums
from vision_jax.kernels.rectangle_maxima import rectangle_maxima
from vision_jax.kernels.window_samples import Windows, spread_window_samples, window_slopes

HEIGHT, WIDTH = 6, 5


def features(channels, seed=0):
    return np.random.default_rng(seed).normal(size=(2, HEIGHT, WIDTH, channels)).astype(np.float32)


def windows_of(seed=0, count=9):
    """First cells and weights of four windows for each of so many sums, of two images."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, (HEIGHT - 1, WIDTH - 1), (2, count, 4, 2)).astype(np.int32)
    return corners, rng.uniform(size=(2, count, 4, 2, 2)).astype(np.float32)


def samples_of(seed=0, count=9):
    """First cells and offsets of samples of two images."""
    rng = np.random.default_rng(seed)
    rows, columns = (rng.integers(0, length - 1, (2, count)).astype(np.int32) for length in (HEIGHT, WIDTH))
    down, across = (rng.uniform(-1, 2, (2, count)).astype(np.float32) for _ in range(2))
    return Windows(rows, columns, down, across)


def plain_sums(atlas, corners, weights):
    """The definition: each sum's windows, cell by cell."""
    cell = jnp.arange(2)
    cells = atlas[corners[..., 0, None, None] + cell[:, None], corners[..., 1, None, None] + cell]
    return jnp.einsum("nsyxc,nsyx->nc", cells, weights)


def plain_samples(atlas, windows):
    """The definition: a sum over each window's cells, a cell weighing less the farther it is."""
    rows, columns = jnp.arange(HEIGHT), jnp.arange(WIDTH)

    def weights(first, offset, cells):
        inside = (cells >= first[:, None]) & (cells < first[:, None] + 2)
        return jnp.where(inside, jnp.maximum(1 - jnp.abs(cells - first[:, None] - offset[:, None]), 0), 0)

    down, across = (
        weights(windows.rows, windows.down, rows),
        weights(windows.columns, windows.across, columns),
    )
    return jnp.einsum("ny,nx,yxc->nc", down, across, atlas, precision="highest")


def plain_maxima(atlas, rectangles):
    """The definition: the maximum over a mask."""
    top, bottom, left, right = (side[:, None, None] for side in rectangles.T)
    rows, columns = jnp.arange(HEIGHT)[:, None], jnp.arange(WIDTH)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    largest = jnp.where(inside[..., None], atlas, -jnp.inf).max((1, 2))
    return jnp.where(inside.any((1, 2))[:, None], largest, 0)


def check(kernel, plain, maps, *others):
    """Values and the maps' gradients, of both images by `vmap` and of the first alone."""

    @jax.jit
    def values_and_gradients(maps, others):
        def both(form, maps, others):
            values, pull = jax.vjp(lambda maps: form(maps, *others), maps)
            return values, pull(jnp.sin(jnp.arange(values.size, dtype=jnp.float32)).reshape(values.shape))

        return [
            (both(jax.vmap(form), maps, others), both(form, *jax.tree.map(lambda x: x[0], (maps, others))))
            for form in (kernel, plain)
        ]

    found, expected = values_and_gradients(maps, others)
    chex.assert_trees_all_close(found, expected, atol=1e-5)


@pytest.mark.parametrize("channels", [3, pytest.param(40, marks=pytest.mark.kernels)])
def test_window_sums_are_those_of_the_definition(channels):
    check(window_sums.window_sums, plain_sums, features(channels), *windows_of())


@pytest.mark.parametrize("channels", [3, pytest.param(40, marks=pytest.mark.kernels)])
def test_samples_and_all_gradients_are_those_of_the_definition(channels):
    atlas, windows = features(channels), samples_of()
    gradient = np.random.default_rng(1).normal(size=(2, 9, channels)).astype(np.float32)

    @jax.jit
    def ours(atlas, windows, gradient):
        def one(atlas, windows, gradient):
            return (
                window_samples.window_samples(atlas, windows),
                spread_window_samples(atlas[..., :0], windows, gradient),
                window_slopes(atlas, windows, gradient),
            )

        return jax.vmap(one)(atlas, windows, gradient), one(
            *jax.tree.map(lambda x: x[0], (atlas, windows, gradient))
        )

    @jax.jit
    @jax.vmap
    def definition(atlas, windows, gradient):
        def of(atlas, across, down):
            return plain_samples(atlas, Windows(windows.rows, windows.columns, down, across))

        values, pull = jax.vjp(of, atlas, windows.across, windows.down)
        to_atlas, *to_offsets = pull(gradient)
        return values, to_atlas, jnp.stack(to_offsets, -1)

    batch, first = ours(atlas, windows, gradient)
    expected = definition(atlas, windows, gradient)
    chex.assert_trees_all_close(batch, expected, atol=1e-5)
    chex.assert_trees_all_close(first, jax.tree.map(lambda x: x[0], expected), atol=1e-5)


def test_rectangle_maxima_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    top, left = rng.integers(0, HEIGHT, (2, 9)), rng.integers(0, WIDTH, (2, 9))
    bottom, right = (
        np.minimum(first + rng.integers(0, 5, (2, 9)), length)
        for first, length in ((top, HEIGHT), (left, WIDTH))
    )
    rectangles = np.stack([top, bottom, left, right], -1).astype(np.int32)
    check(rectangle_maxima, plain_maxima, features(3), rectangles)


def test_the_scatter_of_other_devices_equals_the_loop():
    corners, weights = (array[0] for array in windows_of(5))
    like, gradient = np.zeros((HEIGHT, WIDTH, 0), np.float32), features(9)[0, 0].T[:, :3]
    in_turn = jax.jit(window_sums._spread_in_turn)(like, corners, weights, gradient)
    at_once = jax.jit(window_sums.spread_at_once)(like, corners, weights, gradient)
    np.testing.assert_allclose(in_turn, at_once, atol=1e-5)


def test_the_scatter_of_samples_of_other_devices_equals_the_loop():
    windows = [array[0] for array in samples_of(7)]
    like, gradient = np.zeros((HEIGHT, WIDTH, 0), np.float32), features(9)[0, 0].T[:, :3]
    in_turn, at_once = (
        jax.jit(form)(like, *windows, gradient)
        for form in (window_samples._spread_samples_in_turn, window_samples._spread_samples_at_once)
    )
    chex.assert_trees_all_close(in_turn, at_once, atol=1e-5)
