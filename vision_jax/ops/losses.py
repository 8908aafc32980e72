"""Losses of detectors, element by element, and of label maps, image by image.

How they are summed and weighted is the caller's matter. They are computed in float32, or in float64 where an
argument is, and come out so: integers and halves are promoted first.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Num

from vision_jax.ops.arguments import promoted


def smooth_l1(
    prediction: Num[Array | np.ndarray, "*#shape"],
    target: Num[Array | np.ndarray, "*#shape"],
    beta: float = 1.0,
) -> Float[Array, "..."]:
    """Squared error near 0, absolute error beyond (Girshick 2015, Fast R-CNN, equation 3).

    Args:
        prediction: any shape.
        target: a shape that broadcasts against it.
        beta: where the square ends; 0 gives the absolute error. The slope beyond is 1 for every beta,
            unlike the Huber loss, which is this times beta.

    Returns:
        For a difference d: d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere.

    Raises:
        ValueError: `beta` is negative, or the shapes do not broadcast.
    """
    if not beta >= 0:
        raise ValueError(f"beta is {beta}; it is where the square ends, at least 0")
    prediction, target = promoted(prediction, target)
    jnp.broadcast_shapes(prediction.shape, target.shape)
    if beta == 0:
        return jnp.abs(prediction - target)
    return optax.losses.huber_loss(prediction, target, delta=beta) / beta


def sigmoid_focal_loss(
    logits: Num[Array | np.ndarray, "*#shape"],
    targets: Num[Array | np.ndarray, "*#shape"],
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float[Array, "..."]:
    """Binary cross-entropy that fades where the answer is already right (RetinaNet, Lin et al. 2017, eq. 5).

    Args:
        logits: one per element and class.
        targets: 0 or 1.
        alpha: weight of the 1s, the 0s weigh 1 - alpha; a negative one weighs both 1.
        gamma: how fast the loss fades; 0 is cross-entropy.

    Returns:
        The loss of each element, at least 0.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    logits, targets = promoted(logits, targets)
    jnp.broadcast_shapes(logits.shape, targets.shape)
    return optax.losses.sigmoid_focal_loss(logits, targets, alpha=alpha if alpha >= 0 else None, gamma=gamma)


def dice_loss(
    probabilities: Num[Array | np.ndarray, "h w k"],
    labels: Int[Array | np.ndarray, "_h _w"],
    squared: bool = True,
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """One less the soft Dice coefficient of one image's classes (V-Net, Milletari et al. 2016, section 3).

    A class's coefficient is 2 sum(p g) / (sum(p^2) + sum(g)) over the pixels that are not void, where p is
    its probability and g is 1 in its region, else 0. A small region so counts as much as a large one. Only
    classes with a pixel in the image have one; the loss is one less their mean. Means of it are taken over
    images, each of which lies on one device: `Mean.over(losses, where=counts)`.

    Args:
        probabilities: of the classes, 0..1; may be NaN where void.
        labels: 0..K-1, -1 where void.
        squared: p^2 in the denominator, as in the paper; else p, as others have it, with which answers
            between 0 and 1 lose more.

    Returns:
        The loss, 0..1; and whether it counts: not where all is void, it is 0 there.

    Raises:
        ValueError: the labels are of another size.
    """
    (probabilities,), labels = promoted(probabilities), jnp.asarray(labels)
    if probabilities.shape[:2] != labels.shape:
        raise ValueError(
            f"probabilities {list(probabilities.shape)} and labels {list(labels.shape)} differ in size"
        )
    labeled = labels >= 0
    truth = jax.nn.one_hot(labels, probabilities.shape[-1], dtype=probabilities.dtype)
    answer = jnp.where(labeled[..., None], probabilities, 0)
    true = truth.sum((0, 1))
    present = true > 0
    shared = (truth * answer).sum((0, 1))
    # Where a class is present this is at least 1; elsewhere it could be 0.
    both = jnp.where(present, (answer**2 if squared else answer).sum((0, 1)) + true, 1)
    classes = present.sum()
    counts = classes > 0
    dice = (2 * shared / both).sum() / jnp.maximum(classes, 1)
    return jnp.where(counts, 1 - dice, 0), counts
