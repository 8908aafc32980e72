"""One training step and one evaluation step, from one device's view; the axis is "data".

A loss term is a sum and its weight. The step divides each device's sum by the weight of all
devices, inside the differentiated function, and adds the gradients: N devices minimise exactly what
one would, however unevenly pixels, objects and anchors fall on them. A mean of the devices' means
would not (one device with 1 pixel of loss 9, one with 5 of loss 3: it says 6, the truth is 4).

The random key is the same on every device: randomness of one example is the model's to draw, by the
example's id, and then it does not depend on the number of devices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Key

from vision_jax.training.experiment import Batch, Predictions
from vision_jax.training.optimizers import Schedule
from vision_jax.training.state import TrainState, Variables
from vision_jax.types import AXIS, Mean


@struct.dataclass
class StepMetrics:
    """What a step reports, equal on all devices: scalars of JAX, of numpy on the host.

    Attributes:
        terms: each loss term's mean over the global batch, by name.
        loss: their sum.
        grad_norm: the global norm of the gradient before clipping.
        learning_rate: of this step.
        finite: bool, False where the loss or the gradient is not: the state was then left as it was.
    """

    terms: Any
    loss: Any
    grad_norm: Any
    learning_rate: Any
    finite: Any


def train_step(
    model: nn.Module, optimizer: optax.GradientTransformation, rate: Schedule
) -> Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, StepMetrics]]:
    """Builds the step of a gradient stage.

    Args:
        model: with `loss(batch, train=True) -> {name: Mean}`; draws from the collection `sample`.
        optimizer: the update rule.
        rate: its learning rate, for the report.

    Returns:
        (state, this device's share of the batch, the stage's key) -> the next state, the metrics.
    """

    def step(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(key, state.step)

        def objective(params: Any) -> tuple[Float[Array, ""], tuple[Any, Variables]]:
            means, collections = model.apply(
                {"params": params, **state.collections},
                batch,
                method="loss",
                train=True,
                rngs={"sample": key},
                mutable=list(state.collections),
            )
            shares = _shares(means)
            return _sum(shares), (shares, dict(collections))

        gradient, (shares, collections) = jax.grad(objective, has_aux=True)(state.params)
        gradient, terms = jax.lax.psum((gradient, shares), AXIS)
        loss = _sum(terms)
        norm = optax.global_norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)

        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        moved = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            collections=_synchronised({**state.collections, **collections}),
            opt_state=opt_state,
        )
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
        return kept, StepMetrics(terms, loss, norm, rate(state.step), finite)

    return step


def evaluation_step(
    model: nn.Module,
) -> Callable[[Variables, Batch, Key[Array, ""]], tuple[dict[str, Mean], Predictions]]:
    """Builds the step of an evaluation: (variables, share, key) -> losses of all devices, own predictions."""

    def step(variables: Variables, batch: Batch, key: Key[Array, ""]) -> tuple[dict[str, Mean], Predictions]:
        rngs = {"sample": key}
        means = model.apply(variables, batch, method="loss", train=False, rngs=rngs)
        predictions = model.apply(variables, batch, method="predict", rngs=rngs)
        return jax.lax.psum(means, AXIS), predictions

    return step


def prediction_step(model: nn.Module) -> Callable[[Variables, Batch, Key[Array, ""]], Predictions]:
    """Builds (variables, share of the batch, key) -> predictions, for batches without truth."""

    def step(variables: Variables, batch: Batch, key: Key[Array, ""]) -> Predictions:
        return model.apply(variables, batch, method="predict", rngs={"sample": key})

    return step


def _shares(means: dict[str, Mean]) -> dict[str, Float[Array, ""]]:
    """Each term's part of its global mean: this device's sum over all devices' weight, 0 over 0."""
    weights = jax.lax.psum(
        {name: jax.lax.stop_gradient(jnp.float32(mean.weight)) for name, mean in means.items()}, AXIS
    )
    return {name: Mean(jnp.float32(mean.total), weights[name]).value() for name, mean in means.items()}


def _sum(terms: dict[str, Float[Array, ""]]) -> Float[Array, ""]:
    return functools.reduce(jnp.add, terms.values(), jnp.float32(0))


def _synchronised(collections: Variables) -> Variables:
    """Makes statistics equal on all devices: the mean of floats, the largest of anything else."""

    def one(x: Array) -> Array:
        return jax.lax.pmean(x, AXIS) if jnp.issubdtype(x.dtype, jnp.inexact) else jax.lax.pmax(x, AXIS)

    return jax.tree.map(one, collections)
