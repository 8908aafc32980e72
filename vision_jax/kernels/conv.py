"""Convolutions that are fast where XLA's are slow.

On the CPU XLA runs convolutions below the speed of its matrix products, their gradients with respect to
the kernel far below. All are matrix products in disguise: a 1x1 convolution is a product over channels, the
kernel's gradient one product of shifted inputs and output gradients for each row of taps, and 3x3 taps at
stride 1 need fewer products yet (`winograd`). What a batch's maps need does not fit in its caches, so that
parts of a batch, one after the other, take half the time. On accelerators XLA's own forms are used.

Throughout `x` are feature maps [b, h, w, i], `g` gradients with respect to the outputs [b, hh, ww, o],
kernels [kh, kw, i, o], all of one floating dtype; padding and dilation are in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vision_jax.kernels import dilated, winograd

Padding = tuple[int, int]  # (above and below, left and right)
Convolution = Callable[..., Array]  # (x, kernel, stride, padding, dilation), by name too -> feature maps

# With fewer channels than this (a stem's 3), XLA's own forms are as fast.
_FEWEST_CHANNELS = 16
_FEWEST_FOR_WINOGRAD = 64
_CACHE = 2**20  # bytes of maps that stay in a core's cache
_LARGE = 5  # rows of taps from which one large product is faster than a small one for each row


def fast_conv2d(
    plain: Convolution,
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    stride: int,
    padding: Padding,
    dilation: int,
) -> Float[Array, "b hh ww o"]:
    """A plain convolution's values and gradients, on CPUs by the form that is fastest for these shapes.

    Reverse-mode differentiable in `x` and `kernel`.

    Args:
        plain: the definition, a function of a module; what runs on other platforms.
        x, kernel, stride, padding, dilation: its arguments.
    """
    return cast(Array, _conv2d(plain, x, kernel, stride, padding, dilation))


def _forward(
    plain: Convolution,
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    stride: int,
    padding: Padding,
    dilation: int,
) -> Float[Array, "b hh ww o"]:
    """The feature maps."""
    definition = partial(plain, stride=stride, padding=padding, dilation=dilation)
    if _by_winograd(kernel, stride, padding, dilation):
        fewer = partial(winograd.convolve, padding=padding[0])
        return lax.platform_dependent(x, kernel, cpu=fewer, default=definition)
    if stride == 1 and dilated.is_faster(x, kernel, padding, dilation):
        inside = partial(dilated.convolve, padding=padding, dilation=dilation)
        return lax.platform_dependent(x, kernel, cpu=inside, default=definition)
    if kernel.shape[:2] != (1, 1) and stride == 1 and kernel.shape[2] >= _FEWEST_CHANNELS:
        in_parts = partial(_in_parts, definition)
        return lax.platform_dependent(x, kernel, cpu=in_parts, default=definition)
    return definition(x, kernel)


def _in_parts(
    of_part: Callable[[Array, Array], Array],
    maps: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw _i _o"],
) -> Float[Array, "b _h _w _c"]:
    """The same function of a few images at a time."""
    parts = _parts(len(maps), maps.nbytes)
    if parts == 1:
        return of_part(maps, kernel)
    of_parts = lax.map(lambda part: of_part(part, kernel), maps.reshape(parts, -1, *maps.shape[1:]))
    return of_parts.reshape(len(maps), *of_parts.shape[2:])


def _parts(images: int, nbytes: int) -> int:
    """Into how many equal parts a batch is cut; 1 where a single image would not fit in a cache either."""
    if nbytes > images * _CACHE:
        return 1
    return next(n for n in range(1, images + 1) if images % n == 0 and (nbytes <= n * _CACHE or n == images))


def _by_winograd(kernel: Float[Array, "kh kw i o"], stride: int, padding: Padding, dilation: int) -> bool:
    """Where it gains more time than its many small programs take to compile.

    In bfloat16 the transformed values would lose digits.
    """
    return (
        kernel.shape[:2] == (3, 3)
        and stride == dilation == 1
        and padding[0] == padding[1]
        and min(kernel.shape[2:]) >= _FEWEST_FOR_WINOGRAD
        and kernel.dtype.itemsize >= 4
    )


def _with_residuals(
    plain: Convolution,
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    stride: int,
    padding: Padding,
    dilation: int,
) -> tuple[Float[Array, "b hh ww o"], tuple[Array, Array]]:
    """The feature maps, and what the gradients need."""
    return _forward(plain, x, kernel, stride, padding, dilation), (x, kernel)


def _gradients(
    plain: Convolution,
    stride: int,
    padding: Padding,
    dilation: int,
    residuals: tuple[Float[Array, "b h w i"], Float[Array, "kh kw i o"]],
    g: Float[Array, "b hh ww o"],
) -> tuple[Float[Array, "b h w i"], Float[Array, "kh kw i o"]]:
    """The gradients with respect to inputs and kernel."""
    x, kernel = residuals
    to_inputs = _input_gradient(plain, x, kernel, g, stride, padding, dilation)

    def native(x: Array, g: Array) -> Array:
        _, to_kernel = jax.vjp(lambda kernel: plain(x, kernel, stride, padding, dilation), kernel)
        return to_kernel(g)[0]

    if kernel.shape[3] < _FEWEST_CHANNELS:
        return to_inputs, native(x, g)
    if _by_winograd(kernel, stride, padding, dilation):
        products = partial(winograd.kernel_gradient, padding=padding[0])
    else:
        products = _kernel_products(x, kernel, stride, padding, dilation)
    return to_inputs, lax.platform_dependent(x, g, cpu=products, default=native)


_conv2d = jax.custom_vjp(_forward, nondiff_argnums=(0, 3, 4, 5))
_conv2d.defvjp(_with_residuals, _gradients)


def _kernel_products(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    stride: int,
    padding: Padding,
    dilation: int,
) -> Callable[[Array, Array], Array]:
    """The form of the kernel's gradient, a function of (x, g), that copies the least."""
    rows, columns, channels, features = kernel.shape
    wide = channels > 4 * features
    if stride == 1 and not wide and dilated.is_faster(x, kernel, padding, dilation):
        return partial(dilated.kernel_gradient, taps=(rows, columns), padding=padding, dilation=dilation)
    by_rows = partial(_kernel_gradient_by_rows, taps=(rows, columns), stride=stride, dilation=dilation)
    if stride == 1 and rows >= _LARGE and min(channels, features) >= _FEWEST_CHANNELS:
        at_once = _kernel_gradient_at_once
        return partial(at_once, taps=(rows, columns), padding=padding, dilation=dilation)
    around = dilation * (rows - 1) - padding[0], dilation * (columns - 1) - padding[1]
    no_larger = all(0 <= left <= pad for left, pad in zip(around, padding, strict=True))
    if stride > 1 or channels < features or (rows, columns) == (1, 1) or not no_larger:
        return partial(by_rows, padding=padding)

    def under_outputs(x: Array, g: Array) -> Array:
        """The fewer channels are those that are shifted: a tap right of an input is left of the output."""
        return by_rows(g, x, padding=around)[::-1, ::-1].transpose(0, 1, 3, 2)

    return under_outputs


def _input_gradient(
    plain: Convolution,
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    g: Float[Array, "b hh ww o"],
    stride: int,
    padding: Padding,
    dilation: int,
) -> Float[Array, "b h w i"]:
    """At stride 1 a convolution with the flipped kernel.

    XLA's own form of that says "flipped" in the convolution's dimensions, which costs eight times as much
    on the CPU inside `lax.cond`, where the kernel is not flipped beforehand.
    """
    if stride > 1:
        return jax.vjp(lambda x: plain(x, kernel, stride, padding, dilation), x)[1](g)[0]
    if kernel.shape[:2] == (1, 1) and padding == (0, 0):
        return lax.dot_general(g, kernel[0, 0], (((3,), (1,)), ((), ())))
    around = dilation * (kernel.shape[0] - 1) - padding[0], dilation * (kernel.shape[1] - 1) - padding[1]

    def flipped(g: Array, kernel: Array) -> Array:
        return plain(g, _flipped(kernel), 1, around, dilation)

    def inside(g: Array, kernel: Array) -> Array:
        return dilated.convolve(g, _flipped(kernel), around, dilation)

    if _by_winograd(kernel, stride, padding, dilation):
        fewer = partial(winograd.input_gradient, padding=padding[0])
        return lax.platform_dependent(g, kernel, cpu=fewer, default=flipped)
    if dilated.is_faster(g, kernel, around, dilation):
        return lax.platform_dependent(g, kernel, cpu=inside, default=flipped)
    inputs = x.shape[1] * x.shape[2]
    many = 1.5 if kernel.shape[2] < _FEWEST_CHANNELS else 3.0
    if inputs >= many * g.shape[1] * g.shape[2]:  # a convolution would multiply mostly zeros
        fastest = partial(_input_gradient_by_rows, padding=padding, dilation=dilation)
    else:
        fastest = flipped
    return lax.platform_dependent(g, kernel, cpu=partial(_in_parts, fastest), default=flipped)


def _flipped(kernel: Float[Array, "kh kw i o"]) -> Float[Array, "kh kw o i"]:
    """The kernel turned by 180 degrees, input and output channels exchanged."""
    return kernel[::-1, ::-1].transpose(0, 1, 3, 2)


def _input_gradient_by_rows(
    g: Float[Array, "b hh ww o"], kernel: Float[Array, "kh kw i o"], *, padding: Padding, dilation: int
) -> Float[Array, "b h w i"]:
    """At stride 1: a matrix product for each row of taps; what each tap gives is added where the tap lay."""
    rows, columns, channels, features = kernel.shape
    pixels = g.reshape(-1, features)

    def row(i: int) -> Array:
        taps = kernel[i].reshape(-1, features)
        products = lax.dot_general(pixels, taps, (((1,), (1,)), ((), ())))
        products = products.reshape(*g.shape[:3], columns, channels)
        moved = (_moved(products[..., j, :], 2, j, columns, dilation) for j in range(columns))
        return _moved(reduce(jnp.add, moved), 1, i, rows, dilation)

    whole = reduce(jnp.add, map(row, range(rows)))
    down, right = padding
    return whole[:, down : whole.shape[1] - down, right : whole.shape[2] - right]


def _moved(
    product: Float[Array, "b h w c"], axis: int, tap: int, taps: int, dilation: int
) -> Float[Array, "b _h _w c"]:
    """Zeros around it along an axis, so that it lies where that tap of so many did."""
    pads = [(0, 0)] * product.ndim
    pads[axis] = (tap * dilation, (taps - 1 - tap) * dilation)
    return jnp.pad(product, pads)


def _kernel_gradient_by_rows(
    x: Float[Array, "b h w i"],
    g: Float[Array, "b hh ww o"],
    *,
    taps: tuple[int, int],
    stride: int,
    padding: Padding,
    dilation: int,
) -> Float[Array, "{taps[0]} {taps[1]} i o"]:
    """One matrix product for each row of taps and part of the batch: inputs under the taps, times output
    gradients.
    """
    width, features = g.shape[2:]
    # A single tap reads both maps once: nothing would be read from a cache again.
    parts, bands, rows = _cut(len(g), g.shape[1], 0 if taps == (1, 1) else max(x.nbytes, g.nbytes))
    reach = dilation * (taps[0] - 1) + 1
    under_rows = (rows - 1) * stride + reach
    down, right = padding
    below = (bands * rows - 1) * stride + reach - down - x.shape[1]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (down, below, 0), (right, right, 0), (0, 0, 0)))
    g = jnp.pad(g, ((0, 0), (0, bands * rows - g.shape[1]), (0, 0), (0, 0)))

    def under(x: Array, axis: int, tap: int, outputs: int) -> Array:
        begin = tap * dilation
        return lax.slice_in_dim(x, begin, begin + (outputs - 1) * stride + 1, stride, axis)

    def of_part(x: Array, g: Array) -> Array:
        across = jnp.concatenate([under(x, 2, j, width) for j in range(taps[1])], axis=-1)
        g = g.reshape(-1, features)
        of_rows = (under(across, 1, i, rows).reshape(len(g), -1) for i in range(taps[0]))
        return jnp.stack([lax.dot_general(row, g, (((0,), (0,)), ((), ()))) for row in of_rows])

    summed = _sum_over_parts(of_part, (x, g), (parts, bands), ((rows * stride, under_rows), (rows, rows)))
    return summed.reshape(*taps, x.shape[-1], features).astype(g.dtype)


def _kernel_gradient_at_once(
    x: Float[Array, "b h w i"],
    g: Float[Array, "b hh ww o"],
    *,
    taps: tuple[int, int],
    padding: Padding,
    dilation: int,
) -> Float[Array, "{taps[0]} {taps[1]} i o"]:
    """At stride 1: one matrix product for each part of the batch, of inputs moved by columns of taps and
    output gradients moved by rows of taps, which copies each map only as often as there are columns, or rows.
    """
    channels, (width, features) = x.shape[3], g.shape[2:]
    copies = x[..., 0].size * (taps[1] * channels + taps[0] * features) * x.dtype.itemsize
    parts, bands, rows = _cut(len(x), x.shape[1], copies)
    filled = bands * rows - x.shape[1]
    reach = dilation * (taps[0] - 1)
    around = reach - padding[0]
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(x, zero, ((0, 0, 0), (0, filled, 0), (padding[1], padding[1], 0), (0, 0, 0)))
    g = lax.pad(g, zero, ((0, 0, 0), (around, around + filled, 0), (0, 0, 0), (0, 0, 0)))

    def of_part(x: Array, g: Array) -> Array:
        pixels = x.shape[0] * rows * width
        across = [lax.slice_in_dim(x, j * dilation, j * dilation + width, axis=2) for j in range(taps[1])]
        begins = [reach - i * dilation for i in range(taps[0])]
        along = [lax.slice_in_dim(g, begin, begin + rows, axis=1) for begin in begins]
        left, right = (jnp.concatenate(moved, axis=-1).reshape(pixels, -1) for moved in (across, along))
        return lax.dot_general(left, right, (((0,), (0,)), ((), ())))

    summed = _sum_over_parts(of_part, (x, g), (parts, bands), ((rows, rows), (rows, rows + reach)))
    summed = summed.reshape(taps[1], channels, taps[0], features)
    return summed.transpose(2, 0, 1, 3).astype(g.dtype)


def _cut(images: int, rows: int, nbytes: int) -> tuple[int, int, int]:
    """Parts of a batch, bands of their images, rows of a band: images that do not fit in a cache are cut too,
    so that the bands of one may reach below it.
    """
    if nbytes <= images * _CACHE:
        return _parts(images, nbytes), 1, rows
    in_band = -(-rows // -(-nbytes // (images * _CACHE)))
    return images, -(-rows // in_band), in_band


def _sum_over_parts(
    of_part: Callable[[Array, Array], Array],
    maps: tuple[Float[Array, "b _h _w _c"], Float[Array, "b _hh _ww _cc"]],
    cut: tuple[int, int],
    rows: tuple[tuple[int, int], tuple[int, int]],
) -> Float[Array, "..."]:
    """The sum of a function of two maps' parts and bands, added in float32 at least.

    Args:
        of_part: (part of the first map, part of the second) -> array.
        maps: of as many images.
        cut: parts of the batch, and bands of a part.
        rows: for each map, rows from one band to the next, and in a band.
    """
    parts, bands = cut
    if parts * bands == 1:
        return of_part(*maps)
    images = len(maps[0]) // parts

    def at(part: Array) -> Array:
        first, second = (
            lax.dynamic_slice_in_dim(
                lax.dynamic_slice_in_dim(one, part // bands * images, images),
                part % bands * step,
                size,
                axis=1,
            )
            for one, (step, size) in zip(maps, rows, strict=True)
        )
        return of_part(first, second)

    of_one = jax.eval_shape(at, jnp.arange(1)[0])
    nothing = jnp.zeros(of_one.shape, jnp.promote_types(of_one.dtype, jnp.float32))
    return lax.scan(lambda total, part: (total + at(part), None), nothing, jnp.arange(parts * bands))[0]
