"""Where do checkerboards come from?  (Odena et al. 2016, "Deconvolution and checkerboard artifacts".)

    python experiments/segmentation/checkerboards/study.py --data labels:FOLDER --out FOLDER

A transposed convolution whose kernel is no multiple of its stride reaches some pixels more often than others,
and leaves a pattern of the stride's period. It is looked for in the spectrum: the fraction of an output's
variance at the frequencies that are multiples of 1/stride, among which an image has next to nothing.

1. The operation is the transpose of a convolution's matrix, exactly; how many inputs reach each pixel.
2. A kernel of ones, and random kernels, applied to images at half their size.
3. Kernels trained to enlarge images twice, two layers of them with a ReLU between: what is left.

Both with plain transposed convolutions, with those divided by the counts of 1, and with interpolation
followed by a convolution. Measured: result.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from vision_jax.cli.scripts import run_script
from vision_jax.data.open import open_segmentation
from vision_jax.evaluation.tables import markdown_table
from vision_jax.ops.convolution import (
    Method,
    averaged_transposed_convolution,
    convolution_matrix_2d,
    overlap_counts,
    resize_convolution,
    transposed_convolution,
)
from vision_jax.types import Count, UserError, check_options

STRIDE = 2
_FEATURES = 16
_PATCH = 64  # pixels along the sides of what is learned from


@dataclass(frozen=True)
class Upsampler:
    """What doubles a map's sides.

    Attributes:
        name: for tables.
        size: of its kernel, in pixels.
        summed: the sum of the squared weights with which a channel of the map enters an output, in units of
            the kernel's variance.
        apply: (map [h, w, i], kernel [size, size, o, i]) -> map [2h, 2w, o].
    """

    name: str
    size: int
    summed: float
    apply: Callable[[Array, Array], Array]


def _stamped(size: int, averaged: bool) -> Callable[[Array, Array], Array]:
    operation = averaged_transposed_convolution if averaged else transposed_convolution
    padding = (size - 1) // 2 if size % 2 else (size - STRIDE) // 2

    def apply(x: Array, kernel: Array) -> Array:
        return operation(x, kernel, STRIDE, padding, output_padding=size % 2)

    return apply


def _resized(method: Method) -> Callable[[Array, Array], Array]:
    return lambda x, kernel: resize_convolution(x, kernel.transpose(0, 1, 3, 2), STRIDE, method)


UPSAMPLERS = (
    *(Upsampler(f"transposed {k}x{k}", k, k**2 / STRIDE**2, _stamped(k, False)) for k in (2, 3, 4, 5)),
    *(Upsampler(f"averaged {k}x{k}", k, STRIDE**2 / k**2, _stamped(k, True)) for k in (3, 5)),
    Upsampler("nearest, then 3x3", 3, 9, _resized("nearest")),
    Upsampler("bilinear, then 3x3", 3, 9, _resized("bilinear")),
)


def checkerboard(image: Float[np.ndarray, "h w c"], stride: int = STRIDE) -> float:
    """The fraction of an image's variance at frequencies that are multiples of 1/stride.

    Args:
        image: even sides; the border is faded out before the transform.
        stride: period of the pattern, in pixels.
    """
    height, width = (side // stride * stride for side in image.shape[:2])
    fade = np.hanning(height)[:, None, None] * np.hanning(width)[None, :, None]
    centred = image[:height, :width] - image[:height, :width].mean((0, 1))
    power = np.square(np.abs(np.fft.fft2(centred * fade, axes=(0, 1)))).sum(-1)
    # Fading widens each line to its neighbors.
    near = (-1, 0, 1)
    of_stride = np.zeros_like(power, bool)
    for i in range(stride):
        for j in range(stride):
            if (i, j) != (0, 0):
                rows = [(i * height // stride + d) % height for d in near]
                columns = [(j * width // stride + d) % width for d in near]
                of_stride[np.ix_(rows, columns)] = True
    return float(power[of_stride].sum() / power.sum())


def _kernel(key: Array, upsampler: Upsampler, inputs: int, outputs: int) -> Array:
    return jax.random.normal(key, (upsampler.size, upsampler.size, outputs, inputs)) * jnp.sqrt(
        2 / (inputs * upsampler.summed)
    )


def identity(size: int) -> tuple[float, np.ndarray]:
    """The largest difference from the matrix's transpose, in double precision; and the counts of overlap."""
    with jax.enable_x64():
        key, other = jax.random.split(jax.random.key(size))
        kernel = jax.random.normal(key, (size, size, 2, 3), jnp.float64)
        small = jax.random.normal(other, (5, 6, 3), jnp.float64)
        large = transposed_convolution(small, kernel, STRIDE)
        height, width, _ = large.shape
        matrix = convolution_matrix_2d(kernel, (height, width), STRIDE)
        difference = jnp.abs(matrix.T @ small.ravel() - large.ravel()).max()
    counts = np.asarray(overlap_counts((5, 6), (size, size), STRIDE))
    return float(difference), counts


def untrained(
    originals: Sequence[np.ndarray], upsampler: Upsampler, kernels: int
) -> tuple[float, float, float]:
    """The checkerboard's fraction under a kernel of ones, and its mean and deviation over random kernels."""
    enlarge = jax.jit(upsampler.apply)
    fractions = {"ones": [], "random": []}
    for seed in range(kernels):
        original = originals[seed % len(originals)] + 0.5
        small = jax.image.resize(original, (*(s // STRIDE for s in original.shape[:2]), 3), "linear")
        kernel = _kernel(jax.random.key(seed), upsampler, 3, _FEATURES)
        fractions["ones"].append(checkerboard(np.asarray(enlarge(small, jnp.ones_like(kernel)))))
        fractions["random"].append(checkerboard(np.asarray(enlarge(small, kernel))))
    return (
        float(np.mean(fractions["ones"])),
        float(np.mean(fractions["random"])),
        float(np.std(fractions["random"])),
    )


def train(
    originals: Float[Array, "n h w 3"], upsampler: Upsampler, steps: int, seed: int
) -> tuple[float, float, Array]:
    """Learns to enlarge images four times by two layers, from patches of them.

    Returns:
        The mean squared error and the checkerboard's fraction in what is wrong, of the last quarter of the
        images, which it did not learn from; and one enlarged.
    """
    n, height, width, _ = originals.shape
    small = jax.image.resize(originals, (n, height // 4, width // 4, 3), "linear")
    learned = 3 * n // 4
    inputs, targets = _patches(small[:learned], _PATCH // 4), _patches(originals[:learned], _PATCH)
    keys = jax.random.split(jax.random.key(seed), 2)
    kernels = [_kernel(keys[0], upsampler, 3, _FEATURES), 0.1 * _kernel(keys[1], upsampler, _FEATURES, 3)]

    def enlarge(kernels: list[Array], x: Array) -> Array:
        hidden = jax.nn.leaky_relu(upsampler.apply(x, kernels[0]), 0.2)
        return upsampler.apply(hidden, kernels[1])

    def loss(kernels: list[Array], x: Array, y: Array) -> Array:
        return jnp.square(jax.vmap(enlarge, (None, 0))(kernels, x) - y).mean()

    rule = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    @jax.jit
    def step(state: tuple, key: Array) -> tuple:
        kernels, moments = state
        picked = jax.random.choice(key, len(inputs), (8,), replace=False)
        gradient = jax.grad(loss)(kernels, inputs[picked], targets[picked])
        updates, moments = rule.update(gradient, moments)
        return optax.apply_updates(kernels, updates), moments

    state = kernels, rule.init(kernels)
    for key in jax.random.split(jax.random.key(seed + 1), steps):
        state = step(state, key)
    enlarged = jax.jit(jax.vmap(enlarge, (None, 0)))(state[0], small[learned:])
    wrong = np.asarray(enlarged - originals[learned:])
    fraction = np.mean([checkerboard(image, STRIDE**2) for image in wrong])
    return float(np.square(wrong).mean()), float(fraction), enlarged[0]


def _patches(images: Float[Array, "n h w c"], side: int) -> Float[Array, "_m {side} {side} c"]:
    """Squares of one size, as many as lie in the images beside each other."""
    n, height, width, channels = images.shape
    rows, columns = height // side, width // side
    cut = images[:, : rows * side, : columns * side].reshape(n, rows, side, columns, side, channels)
    return cut.swapaxes(2, 3).reshape(-1, side, side, channels)


def main(
    data: str = "synthetic",
    out: Path = Path("out/transposed_convolution"),
    images: Count = 32,
    kernels: Count = 100,
    steps: Count = 400,
    seeds: Count = 3,
) -> None:
    """Writes result.md and result.png.

    Args:
        data: `labels:FOLDER` of images (label maps are not used), or `synthetic`.
        out: folder.
        images: how many images.
        kernels: random kernels of each upsampler.
        steps: of training.
        seeds: trainings of each upsampler.
    """
    check_options(main, locals())
    source = open_segmentation(data)[0]
    images = min(images, len(source))
    if images < 12:
        raise UserError(f"{data} has {images} images: 12 are needed, to learn from three quarters of them")
    side = min(min(source.image(i).shape[:2]) for i in range(images)) // 8 * 8
    if side < _PATCH:
        raise UserError(f"{data} has images with sides of {side} pixels: {_PATCH} are needed")
    originals = np.stack([source.image(i)[:side, :side] / np.float32(255) - 0.5 for i in range(images)])
    exact = []
    for size in (2, 3, 4, 5):
        difference, counts = identity(size)
        inside = counts[size:-size, size:-size]
        pattern = " ".join(map(str, sorted({int(count) for count in inside.ravel()})))
        exact.append([f"{size}x{size}", f"{difference:.1e}", pattern])
    rows, pictures = [], []
    for upsampler in UPSAMPLERS:
        ones, mean, spread = untrained(list(originals), upsampler, kernels)
        trained = [train(jnp.asarray(originals), upsampler, steps, seed) for seed in range(seeds)]
        errors, fractions = (np.array([one[i] for one in trained]) for i in (0, 1))
        rows.append(
            [
                upsampler.name,
                f"{100 * ones:.2f}",
                f"{100 * mean:.2f} ({100 * spread:.2f})",
                f"{1000 * errors.mean():.3f} ({1000 * errors.std():.3f})",
                f"{100 * fractions.mean():.2f} ({100 * fractions.std():.2f})",
            ]
        )
        pictures.append((upsampler.name, trained[0][2]))
        print(" | ".join(rows[-1]), flush=True)
    natural = [100 * np.mean([checkerboard(original, period) for original in originals]) for period in (2, 4)]
    text = [
        "# Where checkerboards come from\n",
        f"    python experiments/segmentation/checkerboards/study.py --data {data} --images {images} "
        f"--kernels {kernels} --steps {steps} --seeds {seeds}\n",
        "Stride 2. Largest difference between a transposed convolution and the transpose of the\n"
        "convolution's matrix, in double precision; how many inputs reach a pixel inside:\n",
        markdown_table(["kernel", "difference", "inputs"], exact),
        "\nThe checkerboard's fraction of the variance, per cent (standard deviation): of images enlarged\n"
        "twice by a kernel of ones and by random ones; of what is wrong in images enlarged four times\n"
        "by trained ones, with their mean squared error x 1000 on images not learned from. Images\n"
        f"themselves have {natural[0]:.2f}, at the two layers' periods of 2 and 4 pixels {natural[1]:.2f}.\n",
        markdown_table(["upsampler", "ones", "random kernels", "error", "trained kernels"], rows),
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "result.md").write_text("\n".join(text) + "\n")
    _plot(out / "result.png", originals[3 * images // 4], pictures)
    print(f"written: {out / 'result.md'}, {out / 'result.png'}")


def _plot(path: Path, original: np.ndarray, pictures: Sequence[tuple[str, Array]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 9.6), layout="constrained")
    shown = [("original", original), *((name, np.asarray(picture)) for name, picture in pictures)]
    for axes, (name, picture) in zip(figure.subplots(3, 3).flat, shown, strict=True):
        middle = picture[picture.shape[0] // 2 - 32 :, picture.shape[1] // 2 - 32 :][:64, :64]
        axes.imshow(np.clip(middle + 0.5, 0, 1), interpolation="nearest")
        axes.set_title(name)
        axes.set_axis_off()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    run_script(main)
