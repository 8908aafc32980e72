"""Element-wise losses of detectors; how they are summed and weighted is the caller's matter."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def smooth_l1(
    prediction: Float[Array, "*#shape"], target: Float[Array, "*#shape"], beta: float = 1.0
) -> Float[Array, "..."]:
    """Squared error near 0, absolute error beyond (Girshick 2015, Fast R-CNN, equation 3).

    Args:
        prediction: any shape.
        target: a shape that broadcasts against it.
        beta: where the square ends; 0 gives the absolute error. The slope beyond is 1 for every beta,
            unlike the Huber loss, which is this times beta.

    Returns:
        For a difference d: d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere.
    """
    if beta == 0:
        return jnp.abs(prediction - target)
    return optax.losses.huber_loss(prediction, target, delta=beta) / beta


def sigmoid_focal_loss(
    logits: Float[Array, "*#shape"],
    targets: Float[Array, "*#shape"],
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
    """
    return optax.losses.sigmoid_focal_loss(logits, targets, alpha=alpha if alpha >= 0 else None, gamma=gamma)
