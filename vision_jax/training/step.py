"""One training step and one evaluation step, from one device's view; the axis is "data".

A loss term is a sum and its weight. The step divides each device's sum by the weight of all
devices, inside the differentiated function, and adds the gradients: N devices minimise exactly what
one would, however unevenly pixels, objects and anchors fall on them. A mean of the devices' means
would not (one device with 1 pixel of loss 9, one with 5 of loss 3: it says 6, the truth is 4).

The random key is the same on every device and in every microbatch: randomness of one example is the
model's to draw, by the example's id, and then it depends on neither.

In bfloat16 the model is called with its parameters cast, and its layers compute in their parameters'
dtype (`vision_jax.layers`). What is learnt, the gradients' sums, statistics, and losses are float32: a
model casts its raw outputs to float32 before anything is compared, summed or decoded.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Int, Key

from vision_jax.training.experiment import Batch, Precision, Predictions, TrainConfig
from vision_jax.training.freezing import Freeze, frozen, judging
from vision_jax.training.optimizers import Numbers, Schedule, learning_rate, optimizer
from vision_jax.training.parallel import summed
from vision_jax.training.state import TrainState, Variables
from vision_jax.types import AXIS, Mean

Scalars = dict[str, Float[Array, ""]]


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
    model: nn.Module,
    rule: optax.GradientTransformation,
    rate: Schedule,
    *,
    precision: Precision = "float32",
    accumulate: int = 1,
    ema: float | Float[Array, ""] = 0.0,
    freeze: Freeze = (),
) -> Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, StepMetrics]]:
    """Builds the step of a gradient stage.

    Under accumulation a term's weight is known only after the last microbatch, and the first one's
    gradient needs it. So the weights come first, in a pass that computes nothing else: XLA keeps of the
    forward pass what they depend on, which is nothing where they are counts of labels, and a detector's
    proposals where they are counts of sampled regions. Adding up each term's own gradient instead would
    take a backward pass and a copy of the gradient for each term.

    Statistics of batch norm are those of one microbatch on all devices, so normalisation sees fewer
    images than without accumulation. Each microbatch updates the statistics that the step began with, and
    the mean of the outcomes is kept: running means are those of the whole batch, and are one step further.

    Args:
        model: with `loss(batch, train=True) -> {name: Mean}`; draws from the collection `sample`.
        rule: of the update.
        rate: its learning rate, for the report.
        precision: of the model's parameters when it is called.
        accumulate: microbatches that each device's share is taken in, dividing its size.
        ema: decay of the state's average, which after t steps is that or (1 + t) / (10 + t), if less: the
            first steps are not remembered for long. 0 where the state keeps none.
        freeze: parts of the model that stay as they are (`freezing`).

    Returns:
        (state, this device's share of the batch, the stage's key) -> the next state, the metrics.
    """

    def step(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(key, state.step)
        still = frozen(state.params, freeze)

        def apply(params: Any, part: Batch) -> tuple[dict[str, Mean], Variables]:
            stopped = jax.tree.map(lambda x, stays: jax.lax.stop_gradient(x) if stays else x, params, still)
            with judging(freeze):
                means, collections = model.apply(
                    {"params": _cast(stopped, precision), **state.collections},
                    part,
                    method="loss",
                    train=True,
                    rngs={"sample": key},
                    mutable=list(state.collections),
                )
            return means, dict(collections)

        def objective(params: Any, part: Batch, weights: Scalars | None) -> tuple[Any, tuple[Any, Variables]]:
            means, collections = apply(params, part)
            shares = _shares(means, summed(_weights(means)) if weights is None else weights)
            return _sum(shares), (shares, collections)

        differentiate = jax.grad(objective, has_aux=True)
        if accumulate == 1:
            gradient, (shares, collections) = differentiate(state.params, batch, None)
        else:
            parts = jax.tree.map(lambda x: jnp.reshape(x, (accumulate, -1, *jnp.shape(x)[1:])), batch)
            weights = jax.lax.map(lambda part: _weights(apply(state.params, part)[0]), parts)
            weights = summed(jax.tree.map(lambda x: x.sum(0), weights))

            def add(gradient: Any, part: Batch) -> tuple[Any, tuple[Scalars, Variables]]:
                more, outcome = differentiate(state.params, part, weights)
                return jax.tree.map(jnp.add, gradient, more), outcome

            nothing = jax.tree.map(jnp.zeros_like, state.params)
            gradient, (shares, collections) = jax.lax.scan(add, nothing, parts)
            shares = jax.tree.map(lambda x: x.sum(0), shares)
            collections = _joined(state.collections, collections, lambda x: x.mean(0), lambda x: x.max(0))

        gradient, terms = summed((gradient, shares))
        loss = _sum(terms)
        norm = optax.global_norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)

        updates, opt_state = rule.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        params = jax.tree.map(lambda new, old, stays: old if stays else new, params, state.params, still)
        collections = _synchronised(state.collections, collections)
        averaged = state.averaged
        if averaged is not None:
            averaged = _averaged(averaged, {"params": params, **collections}, state.step, ema)
        moved = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            collections=collections,
            opt_state=opt_state,
            averaged=averaged,
        )
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
        return kept, StepMetrics(terms, loss, norm, rate(state.step), finite)

    return step


def configured_step(
    model: nn.Module, config: TrainConfig, freeze: Freeze = ()
) -> Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, StepMetrics]]:
    """The step of a gradient stage, as its settings say, from a state of `configured_state`."""

    def step(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[TrainState, StepMetrics]:
        return train_step(
            model,
            optimizer(config, state.numbers),
            learning_rate(config, state.numbers),
            precision=config.precision,
            accumulate=config.accumulate,
            ema=state.numbers.ema,
            freeze=freeze,
        )(state, batch, key)

    return step


def configured_state(variables: Variables, config: TrainConfig) -> TrainState:
    """The state that a gradient stage begins with."""
    return TrainState.create(variables, optimizer(config), ema=config.ema > 0, numbers=Numbers.of(config))


def evaluation_step(
    model: nn.Module,
) -> Callable[[Variables, Batch, Key[Array, ""]], tuple[dict[str, Mean], Predictions]]:
    """Builds the step of an evaluation: (variables, share, key) -> losses of all devices, own predictions."""

    def step(variables: Variables, batch: Batch, key: Key[Array, ""]) -> tuple[dict[str, Mean], Predictions]:
        rngs = {"sample": key}
        means = model.apply(variables, batch, method="loss", train=False, rngs=rngs)
        predictions = model.apply(variables, batch, method="predict", rngs=rngs)
        return summed(means), predictions

    return step


def prediction_step(model: nn.Module) -> Callable[[Variables, Batch, Key[Array, ""]], Predictions]:
    """Builds (variables, share of the batch, key) -> predictions, for batches without truth."""

    def step(variables: Variables, batch: Batch, key: Key[Array, ""]) -> Predictions:
        return model.apply(variables, batch, method="predict", rngs={"sample": key})

    return step


def _cast(params: Any, precision: Precision) -> Any:
    """Floating parameters in the wanted precision; their gradients come back in their own."""
    return jax.tree.map(lambda x: x.astype(precision) if _is_float(x) else x, params)


def _weights(means: dict[str, Mean]) -> Scalars:
    return {name: jax.lax.stop_gradient(jnp.float32(mean.weight)) for name, mean in means.items()}


def _shares(means: dict[str, Mean], weights: Scalars) -> Scalars:
    """Each term's part of its global mean: this sum over the weight of the whole batch, 0 over 0."""
    return {name: Mean(jnp.float32(mean.total), weights[name]).value() for name, mean in means.items()}


def _sum(terms: Scalars) -> Float[Array, ""]:
    return functools.reduce(jnp.add, terms.values(), jnp.float32(0))


def _synchronised(before: Variables, after: Variables) -> Variables:
    """Makes statistics equal on all devices: the mean of floats, the largest of anything else."""
    if jax.lax.axis_size(AXIS) == 1:
        return after
    return _joined(before, after, lambda x: jax.lax.pmean(x, AXIS), lambda x: jax.lax.pmax(x, AXIS))


def _joined(
    before: Variables,
    after: Variables,
    mean: Callable[[Array], Array],
    largest: Callable[[Array], Array],
) -> Variables:
    """The mean of what several devices or microbatches made of the statistics before.

    It is that of their changes: what none of them changed stays as it was, to the bit.
    """

    def one(old: Array, new: Array) -> Array:
        return old + mean(new - old) if _is_float(new) else largest(new)

    return jax.tree.map(one, before, after)


def _averaged(
    average: Variables, new: Variables, steps: Int[Array, ""], decay: float | Float[Array, ""]
) -> Variables:
    """The moving average one step on; what is no float is as in the new variables."""
    kept = jnp.minimum(decay, (1 + steps) / (10 + steps))

    def one(old: Array, new: Array) -> Array:
        return (kept * old + (1 - kept) * new).astype(old.dtype) if _is_float(new) else new

    return jax.tree.map(one, average, new)


def _is_float(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)
