"""Spatial transformers' grids and sampler (Jaderberg, Simonyan, Zisserman and Kavukcuoglu 2015, section 3).

A transform maps each pixel of the output to the point of the input that it reads, so that every output pixel
has a value: a grid generator gives the points, a bilinear sampler reads them, and both are differentiable.

Points are (x, y) and normalized: -1 and 1 are the image's borders, that is the outer edges of its outer
pixels, or with `align_corners` the centers of those pixels. All functions are of one image; `vmap` them.

Images, transforms and points may be of any dtype. Points are computed in float32, or in float64 where an
argument is, and come out so; samples are computed likewise and come out in the image's dtype, rounded to the
nearest where that is an integer's.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Num

from vision_jax.kernels.window_samples import Windows, spread_window_samples, window_samples, window_slopes
from vision_jax.ops.arguments import check_lengths, compute_dtype, promoted, rounded

Padding = Literal["zeros", "border", "reflection"]

_LEAST_DEPTH = 1e-6
_FARTHEST = 1e6  # a coordinate, so that none overflows on its way to a cell


def sample_bilinear(
    image: Num[Array | np.ndarray, "h w c"],
    points: Num[Array | np.ndarray, "*grid 2"],
    padding: Padding = "zeros",
    align_corners: bool = False,
) -> Num[Array, "*grid c"]:
    """Reads an image between its pixels (Jaderberg et al. 2015, equation 5).

    Image and points receive gradients; a point's is that of the cell it lies in, whose neighbor on the right
    and below it belongs to where it lies on a border (equation 7).

    Args:
        image: an image or feature map, of one pixel or more.
        points: normalized (x, y), anywhere. One that is not finite reads 0, and receives no gradient.
        padding: what lies outside: zeros; the border's pixels continued; or the image mirrored at its
            border, again and again.
        align_corners: whether -1 and 1 are the centers of the outer pixels, not their outer edges.

    Returns:
        The values, in the image's dtype.

    Raises:
        ValueError: an image without pixels.
    """
    height, width = image.shape[:2]
    if 0 in (height, width):
        raise ValueError(f"an image of {list(image.shape)} has no pixel to read")
    if 0 in (sampled_shape := (*points.shape[:-1], image.shape[-1])):
        return jnp.zeros(sampled_shape, image.dtype)
    like, dtype = jnp.asarray(image), compute_dtype(image, points)
    # Integers have no gradient, and the sampler's is one of both its arguments.
    image = like if jnp.issubdtype(like.dtype, jnp.floating) else like.astype(dtype)
    if height == 1 or width == 1:  # a window of 2 x 2 cells always fits
        mode = "constant" if padding == "zeros" else "edge"
        image = jnp.pad(image, ((0, max(0, 2 - height)), (0, max(0, 2 - width)), (0, 0)), mode=mode)
    listed = jnp.asarray(points).reshape(-1, 2).astype(dtype)
    values: Array = _sample(image, listed, ((height, width), padding, align_corners))
    return rounded(values.reshape(sampled_shape), like.dtype)


_Settings = tuple[tuple[int, int], Padding, bool]  # the size before it was padded, and the sampler's own


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _sample(
    image: Float[Array, "h w c"], points: Float[Array, "n 2"], settings: _Settings
) -> Float[Array, "n c"]:
    """The samples of a list of points, in their dtype, from an image of 2 x 2 pixels or more."""
    windows, finite, _ = _windows(points, *settings)
    padding = settings[1]
    values = window_samples(image, windows)
    # Beside zeros no point that is not finite reads a cell.
    return values if padding == "zeros" else jnp.where(finite[:, None], values, 0)


def _sample_forward(
    image: Float[Array, "h w c"], points: Float[Array, "n 2"], settings: _Settings
) -> tuple[Float[Array, "n c"], tuple[Array, Array]]:
    """The samples, and what the gradients need."""
    return _sample(image, points, settings), (image, points)


def _sample_backward(
    settings: _Settings,
    residuals: tuple[Float[Array, "h w c"], Float[Array, "n 2"]],
    gradient: Float[Array, "n c"],
) -> tuple[Float[Array, "h w c"], Float[Array, "n 2"]]:
    """The gradients with respect to the image and the points."""
    image, points = lax.optimization_barrier(residuals)
    windows, finite, changes = _windows(points, *settings)
    padding = settings[1]
    if padding != "zeros":
        gradient = jnp.where(finite[:, None], gradient, 0)
    spread = spread_window_samples(image[..., :0], windows, gradient)
    of_down, of_across = changes
    is_x = lax.broadcasted_iota(jnp.int32, points.shape, 1) == 0
    of_points = jnp.where(is_x, of_across[:, None], of_down[:, None])
    slopes = window_slopes(image, windows, gradient)
    # A point that is clipped has no gradient, whatever is read there.
    return spread.astype(image.dtype), jnp.where(of_points == 0, 0, slopes * of_points)


_sample.defvjp(_sample_forward, _sample_backward)


def _windows(
    points: Float[Array, "n 2"], size: tuple[int, int], padding: Padding, align_corners: bool
) -> tuple[Windows, Bool[Array, " n"], list[Float[Array, " n"]]]:
    """Which window each point reads.

    Returns:
        windows: one for each point.
        finite: whether the point is.
        changes: how `down` and `across` change with the point's y and x.
    """
    x, y = points[:, 0], points[:, 1]
    finite = jnp.isfinite(x) & jnp.isfinite(y)
    cells, offsets, changes = [], [], []
    for coordinate, length in ((y, size[0]), (x, size[1])):
        position = partial(
            _position, finite=finite, length=length, padding=padding, align_corners=align_corners
        )
        at, change = jax.jvp(position, (coordinate,), (jnp.ones_like(coordinate),))
        cell = jnp.clip(jnp.floor(at), 0, max(length - 2, 0))
        cells.append(cell.astype(jnp.int32))
        offsets.append(at - cell)
        changes.append(change)
    return Windows(*cells, *offsets), finite, changes


def _position(
    coordinate: Float[Array, " n"],
    finite: Bool[Array, " n"],
    length: int,
    padding: Padding,
    align_corners: bool,
) -> Float[Array, " n"]:
    """Where a point lies along one axis, in cells; 0 at the first one's center."""
    coordinate = jnp.where(finite, coordinate, 0)
    coordinate = _clip(coordinate, jnp.abs(coordinate) < _FARTHEST, -_FARTHEST, _FARTHEST)
    # In this order, as torch has it: its rounding decides in which cell a point on a border lies.
    if align_corners:
        position = (coordinate + 1) / 2 * (length - 1)
    else:
        position = ((coordinate + 1) * length - 1) / 2
    if padding == "zeros":
        position = jnp.where(finite, position, -1)
        return _clip(position, (position >= -1) & (position < length), -1, length)
    if padding == "reflection":
        position = _reflect(position, length, align_corners)
    return _clip(position, (position > 0) & (position < length - 1), 0, length - 1)


def _clip(
    position: Float[Array, " n"], inside: Bool[Array, " n"], low: float, high: float
) -> Float[Array, " n"]:
    """Clips, without a gradient outside."""
    return jnp.where(inside, position, lax.stop_gradient(jnp.clip(position, low, high)))


def _reflect(position: Float[Array, " n"], length: int, align_corners: bool) -> Float[Array, " n"]:
    """Mirrors positions at both borders until they are inside."""
    low, span = (0.0, length - 1.0) if align_corners else (-0.5, float(length))
    if span == 0:
        return 0 * position
    distance = jnp.abs(position - low)
    turns = lax.stop_gradient(jnp.floor(distance / span))
    rest = distance - turns * span
    return low + jnp.where(turns % 2 == 0, rest, span - rest)


def target_points(size: tuple[int, int], align_corners: bool = False) -> Float[np.ndarray, "h w 2"]:
    """The centers of an output's pixels, as normalized points.

    Args:
        size: (height, width) of the output.
        align_corners: whether -1 and 1 are the centers of the outer pixels, not their outer edges. One pixel
            alone is at 0 both ways.

    Returns:
        float32 (x, y).
    """
    return _points(size, align_corners).astype(np.float32)


def _points(size: tuple[int, int], align_corners: bool) -> Float[np.ndarray, "{size[0]} {size[1]} 2"]:
    """`target_points` in float64."""
    y, x = (_centers(length, align_corners) for length in size)
    return np.stack(np.meshgrid(x, y), -1)


def _centers(length: int, align_corners: bool) -> Float[np.ndarray, "{length}"]:
    """The centers of pixels along one axis, normalized."""
    steps = np.arange(length)
    if align_corners:
        return 2 * steps / (length - 1) - 1 if length > 1 else np.zeros(1)
    return (2 * steps + 1) / length - 1


def affine_grid(
    theta: Num[Array | np.ndarray, "2 3"], size: tuple[int, int], align_corners: bool = False
) -> Float[Array, "h w 2"]:
    """Points of an affine transform (equation 1).

    Args:
        theta: maps (x, y, 1) of the output to (x, y) of the input.
        size: (height, width) of the output.
        align_corners: as for the sampler.
    """
    return _mapped(theta, size, align_corners)


def _mapped(
    theta: Num[Array | np.ndarray, "rows 3"], size: tuple[int, int], align_corners: bool
) -> Float[Array, "{size[0]} {size[1]} rows"]:
    """theta @ (x, y, 1) of each pixel."""
    (theta,) = promoted(theta)
    x, y = jnp.moveaxis(jnp.asarray(_points(size, align_corners), theta.dtype), -1, 0)[..., None]
    return x * theta[:, 0] + y * theta[:, 1] + theta[:, 2]


def attention_grid(
    theta: Num[Array | np.ndarray, "3"], size: tuple[int, int], align_corners: bool = False
) -> Float[Array, "h w 2"]:
    """Points of a crop: isotropic scale and translation (equation 2).

    Args:
        theta: (scale, x, y): the crop's size relative to the image, and its middle.
        size: (height, width) of the output.
        align_corners: as for the sampler.
    """
    (theta,) = promoted(theta)
    return theta[0] * jnp.asarray(_points(size, align_corners), theta.dtype) + theta[1:]


def rotation_grid(
    angle: Num[Array | np.ndarray, ""], size: tuple[int, int], align_corners: bool = False
) -> Float[Array, "h w 2"]:
    """Points of a turn about the middle, of an input of the output's shape.

    Args:
        angle: in radians, by which the points turn clockwise, and what is read there the other way.
        size: (height, width) of the output.
        align_corners: as for the sampler.
    """
    height, width = (max(1, length - align_corners) for length in size)
    (angle,) = promoted(angle)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    theta = jnp.stack([cosine, -sine * height / width, sine * width / height, cosine]).reshape(2, 2)
    return _mapped(jnp.pad(theta, ((0, 0), (0, 1))), size, align_corners)


def projective_grid(
    theta: Num[Array | np.ndarray, "3 3"], size: tuple[int, int], align_corners: bool = False
) -> Float[Array, "h w 2"]:
    """Points of a projective transform, whose eight degrees of freedom the last entry leaves (section 3.2).

    Points at infinity, and those nearly so, are a million times as far as their numerators say: finite, and
    outside.

    Args:
        theta: maps (x, y, 1) of the output to (x, y, 1) of the input, up to a factor.
        size: (height, width) of the output.
        align_corners: as for the sampler.
    """
    mapped = _mapped(theta, size, align_corners)
    depth = mapped[..., 2:]
    near = jnp.abs(depth) < _LEAST_DEPTH
    depth = jnp.where(near, jnp.where(depth < 0, -_LEAST_DEPTH, _LEAST_DEPTH).astype(depth.dtype), depth)
    return mapped[..., :2] / depth


def thin_plate_spline_grid(
    theta: Num[Array | np.ndarray, "_k 2"],
    control: Num[np.ndarray, "k 2"],
    size: tuple[int, int],
    align_corners: bool = False,
) -> Float[Array, "h w 2"]:
    """Points of the thin-plate spline that takes control points to others (Bookstein 1989; section 3.2).

    Of all maps that do, it bends least. It is linear in where the control points go, so the equations are
    solved once, when the function is traced.

    Args:
        theta: (x, y) in the input to which each control point goes.
        control: points of the output, at least three and not all on a line; known when tracing.
        size: (height, width) of the output.
        align_corners: as for the sampler.

    Raises:
        ValueError: control points that coincide or lie on one line, or not one point of theta each.
    """
    check_lengths(theta=theta, control=control)
    (theta,) = promoted(theta)
    weights = jnp.asarray(thin_plate_spline_weights(control, size, align_corners), theta.dtype)
    return jnp.einsum("hwk,kd->hwd", weights, theta, precision=lax.Precision.HIGHEST)


def thin_plate_spline_weights(
    control: Num[np.ndarray, "k 2"], size: tuple[int, int], align_corners: bool = False
) -> Float[np.ndarray, "h w k"]:
    """How much of where each control point goes is in where each pixel goes: the solved spline.

    Args:
        control: as for `thin_plate_spline_grid`.
        size: (height, width) of the output.
        align_corners: as for the sampler.

    Returns:
        float64; a pixel's weights add up to 1, and the pixel's point is their sum over the control points'.

    Raises:
        ValueError: control points that coincide or lie on one line.
    """
    points = tuple(map(tuple, np.asarray(control, np.float64).tolist()))
    return _spline_weights(points, tuple(size), align_corners)


@lru_cache(maxsize=64)
def _spline_weights(
    control: tuple[tuple[float, float], ...], size: tuple[int, int], align_corners: bool
) -> Float[np.ndarray, "h w k"]:
    """The weight of each control point's image in each pixel's point."""
    centers = np.array(control)
    count = len(centers)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _bending(centers, centers)
    system[:count, count:] = np.column_stack([np.ones(count), centers])
    system[count:, :count] = system[:count, count:].T
    if count < 3 or np.linalg.matrix_rank(system) < count + 3:
        raise ValueError(f"a thin-plate spline's {count} control points coincide or lie on one line")
    points = _points(size, align_corners).reshape(-1, 2)
    basis = np.column_stack([_bending(points, centers), np.ones(len(points)), points])
    return np.linalg.solve(system, basis.T)[:count].T.reshape(*size, count)


def _bending(points: Float[np.ndarray, "n 2"], centers: Float[np.ndarray, "k 2"]) -> Float[np.ndarray, "n k"]:
    """r^2 log r^2 between points and centers, 0 where they meet."""
    squared = ((points[:, None] - centers) ** 2).sum(-1)
    return squared * np.log(np.where(squared > 0, squared, 1))


def regular_points(per_side: int) -> Float[np.ndarray, "k 2"]:
    """Control points on a regular grid whose outer points are the image's corners.

    Args:
        per_side: points along each side, at least 2; the paper has 4.

    Returns:
        float32 (x, y), row by row.
    """
    return target_points((per_side, per_side), align_corners=True).reshape(-1, 2)
