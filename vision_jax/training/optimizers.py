"""Optimizers and learning-rate schedules of a gradient stage.

SGD with momentum as torch defines it: the decay is added to the gradient, the sum enters the
momentum, and the learning rate scales the momentum last. Adam (Kingma and Ba 2015, algorithm 1) adds the
decay to the gradient; AdamW decouples it (Loshchilov and Hutter 2019). RMSProp (Tieleman and Hinton 2012) as
Inception networks were trained with it (Szegedy et al. 2016, section 8): the gradient over the root of its
mean square plus epsilon, before the momentum; centered (Graves 2013, equations 38 to 41), over the root of
its variance plus epsilon. AdaDelta (Zeiler 2012, algorithm 1), whose update the learning rate scales: 1 in
the paper. Gradients are clipped by their global norm first. The schedules: a linear warm-up
(Goyal et al. 2017, section 2.2), then half a cosine (Loshchilov and Hutter 2017, equation 5), steps
(He et al. 2016), or nothing.

A learning rate found at one batch size is carried to another in proportion for SGD (Goyal et al. 2017,
section 2.1) and by the square root for Adam (Malladi et al. 2022, "On the SDEs and scaling rules for adaptive
gradient algorithms", section 5; their rule for the moments' decays is not applied).

The numbers of all this are arrays in the step's state, not constants of its program, so that trials which
differ in them alone share one program. Adam's betas alone are constants: in float32, 1 - beta would be
rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int

from vision_jax.training.experiment import TrainConfig
from vision_jax.types import check_fields

Schedule = Callable[[Any], Float[Array, ""]]


def check_config(config: TrainConfig) -> None:
    """Checks that the settings are within their ranges.

    Raises:
        UserError: naming the field, its value and what is allowed.
    """
    check_fields(config, "train")


def peak_learning_rate(config: TrainConfig) -> float:
    """The learning rate after the warm-up, scaled from the reference batch size to the one in use."""
    if config.reference_batch == 0:
        return config.learning_rate
    ratio = config.batch_size / config.reference_batch
    return config.learning_rate * (ratio if config.optimizer == "sgd" else math.sqrt(ratio))


@struct.dataclass
class Numbers:
    """The numbers of a TrainConfig as float32 scalars, equal on all devices; the fields have its names.

    Attributes:
        learning_rate: after the warm-up, for the batch size in use.
        milestones: a tuple of scalars.
    """

    learning_rate: Any
    warmup_steps: Any
    steps: Any
    milestones: Any
    decay: Any
    momentum: Any
    rms_decay: Any
    rms_epsilon: Any
    adadelta_rho: Any
    adadelta_epsilon: Any
    weight_decay: Any
    clip_norm: Any
    ema: Any

    @classmethod
    def of(cls, config: TrainConfig) -> Numbers:
        """The numbers of a config, as numpy."""
        values = {name: getattr(config, name) for name in cls.__dataclass_fields__}
        return cls(**jax.tree.map(np.float32, {**values, "learning_rate": peak_learning_rate(config)}))


def learning_rate(config: TrainConfig, numbers: Numbers | None = None) -> Schedule:
    """The learning rate of each step.

    In a warm-up of w steps, step s (from 0) has (s + 1) / w of the peak: no step has a rate of 0. Cosine
    reaches 0 after the last step.

    Args:
        config: the schedule.
        numbers: used instead of the config's; None uses those.

    Returns:
        steps taken so far, int scalar -> learning rate, float32 scalar.
    """
    n = numbers or Numbers.of(config)

    def rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
        step = jnp.asarray(step, jnp.float32)
        rising = (step + 1) / jnp.maximum(n.warmup_steps, 1)
        if config.schedule == "cosine":
            done = jnp.clip((step - n.warmup_steps) / jnp.maximum(n.steps - n.warmup_steps, 1), 0, 1)
            after = 0.5 * (1 + jnp.cos(jnp.pi * done))
        elif config.schedule == "step":
            passed = sum((step >= fraction * n.steps).astype(jnp.float32) for fraction in n.milestones)
            after = jnp.float32(n.decay) ** passed
        else:
            after = jnp.float32(1)
        return n.learning_rate * jnp.where(step < n.warmup_steps, rising, after)

    return rate


def decays(params: Any) -> Any:
    """Which parameters weight decay applies to: kernels, not biases and not the scales of norms.

    Returns:
        A tree of the same structure: True for arrays of two or more axes not named `bias` or `scale`.
    """

    def is_kernel(path: tuple[Any, ...], leaf: Any) -> bool:
        name = str(getattr(path[-1], "key", "")) if path else ""
        return jnp.ndim(leaf) > 1 and name not in ("bias", "scale")

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def optimizer(config: TrainConfig, numbers: Numbers | None = None) -> optax.GradientTransformation:
    """The update rule of a stage: clipping, weight decay, momentum, learning rate.

    Args:
        config: the rule.
        numbers: used instead of the config's; None uses those.

    Raises:
        UserError: a number is out of its range; the message names the field.
    """
    check_config(config)
    n = numbers or Numbers.of(config)
    clip = optax.clip_by_global_norm(n.clip_norm) if config.clip_norm > 0 else optax.identity()
    decay = optax.add_decayed_weights(n.weight_decay, decays)
    scale = optax.scale_by_learning_rate(learning_rate(config, n))
    if config.optimizer == "sgd":
        return optax.chain(clip, decay, optax.trace(n.momentum), scale)
    if config.optimizer == "rmsprop":
        by_root = optax.scale_by_stddev if config.rms_centered else optax.scale_by_rms
        rms = by_root(n.rms_decay, n.rms_epsilon, eps_in_sqrt=True)
        return optax.chain(clip, decay, rms, optax.trace(n.momentum), scale)
    if config.optimizer == "adadelta":
        by_updates = optax.scale_by_adadelta(n.adadelta_rho, n.adadelta_epsilon)
        return optax.chain(clip, decay, by_updates, scale)
    if config.optimizer == "adam":
        return optax.chain(clip, decay, optax.scale_by_adam(*config.betas), scale)
    return optax.chain(clip, optax.scale_by_adam(*config.betas), decay, scale)
