"""One training step and one evaluation step, from one device's view; the axis is "data".

A loss term is a sum and its weight. The step divides each device's sum by the weight of all
devices, inside the differentiated function, and adds the gradients: N devices minimize exactly what
one would, however unevenly pixels, objects and anchors are distributed. A mean of the devices' means
would not (one device with 1 pixel of loss 9, one with 5 of loss 3: it is 6, the mean is 4).

The random key is the same on every device and in every microbatch: a model folds the example's id into it,
so that the random numbers of an example depend on neither.

In bfloat16 the model is called with its parameters cast, and its layers compute in their parameters'
dtype (`vision_jax.layers`). Stored parameters, sums of gradients, statistics and losses are float32: a
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
from vision_jax.training.features import apply_model
from vision_jax.training.freezing import frozen, frozen_in_eval_mode
from vision_jax.training.optimizers import Numbers, Schedule, learning_rate, optimizer
from vision_jax.training.parallel import summed
from vision_jax.training.parts import Parts, Variables, joined, split
from vision_jax.training.running import advanced, without_running
from vision_jax.training.state import TrainState
from vision_jax.types import AXIS, Mean

Scalars = dict[str, Float[Array, ""]]


@struct.dataclass
class StepMetrics:
    """The metrics of a step, equal on all devices: float32 scalars of JAX, of numpy on the host.

    Attributes:
        terms: each loss term's mean over the global batch, by name.
        loss: the sum of the terms.
        grad_norm: the global norm of the gradient before clipping.
        learning_rate: of this step.
        finite: bool scalar, False where the loss or the gradient is not finite: the state is then unchanged.
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
    freeze: Parts = (),
    objective: str = "loss",
    modules: Parts = (),
) -> Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, StepMetrics]]:
    """Builds the step of a gradient stage.

    Under accumulation a term's weight is known only after the last microbatch, and the first one's
    gradient needs it. So the weights are computed first, in a separate pass: XLA keeps the part of the
    forward pass that they depend on, which is nothing where they are counts of labels, and a detector's
    proposals where they are counts of sampled regions. Summing each term's own gradient instead would
    take a backward pass and a copy of the gradient for each term.

    Statistics of batch norm are those of one microbatch on all devices: fewer examples than without
    accumulation. Each microbatch updates the statistics of the step's start, and the mean of the results is
    kept: running means are those of the whole batch, after one update.

    Losses and running values (`running`) are sums that devices and microbatches add up.

    Args:
        model: with the objective; its random collection is `sample`.
        rule: the optimizer.
        rate: its learning rate, for the metrics.
        precision: of the model's parameters when it is called.
        accumulate: number of microbatches, dividing the size of a device's shard.
        ema: decay of the state's moving average; after t steps the smaller of it and (1 + t) / (10 + t), so
            that the first steps are forgotten soon. 0 where the state keeps none.
        freeze: frozen parts of the model (`freezing`).
        objective: the model's method that is minimized: (batch, train=True) -> {name: Mean}, where a term may
            be given an example at a time.
        modules: the parts of the model (`parts`) that are trained; () for all of it. The others are called in
            training mode too, and their parameters and collections are bit-identical after the step.

    Returns:
        (state, this device's shard of the batch [b, ...], the stage's key) -> (the next state, the metrics).
    """

    def step(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(key, state.step)
        own, others = split(state.variables, modules)
        is_frozen = frozen(own["params"], freeze)

        def apply(params: Any, part: Batch) -> tuple[dict[str, Mean], Variables]:
            stopped = jax.tree.map(
                lambda x, fixed: jax.lax.stop_gradient(x) if fixed else x, params, is_frozen
            )
            everything = joined({**own, "params": stopped}, others)
            with frozen_in_eval_mode(freeze):
                means, collections = apply_model(
                    model,
                    {**everything, "params": _cast(everything["params"], precision)},
                    part,
                    method=objective,
                    train=True,
                    rngs={"sample": key},
                    mutable=list(state.collections),
                )
            return {name: mean.sum() for name, mean in means.items()}, dict(collections)

        def total(params: Any, part: Batch, weights: Scalars | None) -> tuple[Any, tuple[Any, Variables]]:
            means, collections = apply(params, part)
            partial = _partial_means(means, summed(_weights(means)) if weights is None else weights)
            return _sum(partial), (partial, collections)

        differentiate = jax.grad(total, has_aux=True)
        if accumulate == 1:
            gradient, (partial, collections) = differentiate(own["params"], batch, None)
        else:
            parts = jax.tree.map(lambda x: jnp.reshape(x, (accumulate, -1, *jnp.shape(x)[1:])), batch)
            weights = jax.lax.map(lambda part: _weights(apply(own["params"], part)[0]), parts)
            weights = summed(jax.tree.map(lambda x: x.sum(0), weights))

            def add(gradient: Any, part: Batch) -> tuple[Any, tuple[Scalars, Variables]]:
                more, outcome = differentiate(own["params"], part, weights)
                return jax.tree.map(jnp.add, gradient, more), outcome

            zeros = jax.tree.map(jnp.zeros_like, own["params"])
            gradient, (partial, collections) = jax.lax.scan(add, zeros, parts)
            partial = jax.tree.map(lambda x: x.sum(0), partial)

        gradient, terms = summed((gradient, partial))
        loss = _sum(terms)
        norm = optax.global_norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)

        updates, opt_state = rule.update(gradient, state.opt_state, own["params"])
        params = optax.apply_updates(own["params"], updates)
        params = jax.tree.map(lambda new, old, fixed: old if fixed else new, params, own["params"], is_frozen)
        collections = _updated(state.collections, collections, accumulate)
        updated = {"params": params, **split(collections, modules)[0]}
        averaged = state.averaged
        if averaged is not None:
            averaged = _averaged(averaged, updated, state.step, ema, freeze)
        everything = joined(updated, others)
        moved = dataclasses.replace(
            state,
            step=state.step + 1,
            params=everything["params"],
            collections={name: tree for name, tree in everything.items() if name != "params"},
            opt_state=opt_state,
            averaged=averaged,
        )
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
        return kept, StepMetrics(terms, loss, norm, rate(state.step), finite)

    return step


def configured_step(
    model: nn.Module,
    config: TrainConfig,
    freeze: Parts = (),
    objective: str = "loss",
    modules: Parts = (),
) -> Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, StepMetrics]]:
    """Builds the step of a gradient stage from its settings, for a state of `configured_state`."""

    def step(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[TrainState, StepMetrics]:
        return train_step(
            model,
            optimizer(config, state.numbers),
            learning_rate(config, state.numbers),
            precision=config.precision,
            accumulate=config.accumulate,
            ema=state.numbers.ema,
            freeze=freeze,
            objective=objective,
            modules=modules,
        )(state, batch, key)

    return step


def configured_state(variables: Variables, config: TrainConfig, modules: Parts = ()) -> TrainState:
    """The state at the start of a gradient stage, or of a player's part in it."""
    rule, ema, numbers = optimizer(config), config.ema > 0, Numbers.of(config)
    return TrainState.create(variables, rule, ema, numbers, modules)


def evaluation_step(
    model: nn.Module, loss: bool = True, predict: bool = True
) -> Callable[[Variables, Batch, Key[Array, ""]], tuple[dict[str, Mean], dict[str, Mean], Predictions]]:
    """Builds the step of an evaluation.

    Args:
        model: with `loss` and `predict`.
        loss, predict: which of the two are called.

    Returns:
        (variables, this device's shard [b, ...], key) -> (loss terms summed over all devices, those terms of
        the shard that are given an example at a time [b], this shard's predictions [b, ...]); of what is not
        called {}, {} and None.
    """

    def step(
        variables: Variables, batch: Batch, key: Key[Array, ""]
    ) -> tuple[dict[str, Mean], dict[str, Mean], Predictions]:
        rngs = {"sample": key}
        means: dict[str, Mean] = {}
        predictions = None
        if loss:
            means = dict(apply_model(model, variables, batch, method="loss", train=False, rngs=rngs))
        if predict:
            predictions = apply_model(model, variables, batch, method="predict", rngs=rngs)
        by_example = {name: mean for name, mean in means.items() if jnp.ndim(mean.total)}
        return summed({name: mean.sum() for name, mean in means.items()}), by_example, predictions

    return step


def prediction_step(model: nn.Module) -> Callable[[Variables, Batch, Key[Array, ""]], Predictions]:
    """Builds (variables, this device's shard [b, ...], key) -> predictions; it needs no ground truth."""

    def step(variables: Variables, batch: Batch, key: Key[Array, ""]) -> Predictions:
        return model.apply(variables, batch, method="predict", rngs={"sample": key})

    return step


def _cast(params: Any, precision: Precision) -> Any:
    """Casts floating parameters to a precision; their gradients have the parameters' own dtype."""
    return jax.tree.map(lambda x: x.astype(precision) if _is_float(x) else x, params)


def _weights(means: dict[str, Mean]) -> Scalars:
    """Each term's weight, float32, without a gradient."""
    return {name: jax.lax.stop_gradient(jnp.float32(mean.weight)) for name, mean in means.items()}


def _partial_means(means: dict[str, Mean], weights: Scalars) -> Scalars:
    """Each term's summand of its global mean: this sum over the weight of the whole batch; 0 for 0 / 0."""
    return {name: Mean(jnp.float32(mean.total), weights[name]).value() for name, mean in means.items()}


def _sum(terms: Scalars) -> Float[Array, ""]:
    """The sum of the terms, float32, in their order."""
    return functools.reduce(jnp.add, terms.values(), jnp.float32(0))


def _updated(before: Variables, after: Variables, accumulate: int) -> Variables:
    """A model's collections after a step, equal on all devices.

    Args:
        before: those of the step's start.
        after: those of each device; with `accumulate` above 1, of its microbatches, along a leading axis.
        accumulate: number of microbatches.
    """
    before, before_running = without_running(before)
    after, after_running = without_running(after)
    if accumulate > 1:
        after = _reduced(before, after, lambda x: x.mean(0), lambda x: x.max(0))
    if jax.lax.axis_size(AXIS) > 1:
        after = _reduced(before, after, lambda x: jax.lax.pmean(x, AXIS), lambda x: jax.lax.pmax(x, AXIS))

    def over_all(sums: Any) -> Any:
        return summed(jax.tree.map(lambda x: x.sum(0), sums) if accumulate > 1 else sums)

    return {**after, **advanced(before_running, after_running, over_all)}


def _reduced(
    before: Variables,
    after: Variables,
    mean: Callable[[Array], Array],
    largest: Callable[[Array], Array],
) -> Variables:
    """Reduces the statistics of several devices or microbatches to one.

    The mean is taken of the changes, so that statistics which none has changed are bit-identical.

    Args:
        before: the statistics of the step's start, arrays of any shapes.
        after: those of each device or microbatch; `mean` and `largest` reduce them to the shapes before.
        mean: the reduction of floats.
        largest: the reduction of other dtypes.
    """

    def one(old: Array, new: Array) -> Array:
        return old + mean(new - old) if _is_float(new) else largest(new)

    return jax.tree.map(one, before, after)


def _averaged(
    average: Variables,
    new: Variables,
    steps: Int[Array, ""],
    decay: float | Float[Array, ""],
    freeze: Parts = (),
) -> Variables:
    """Updates an exponential moving average; running values and other dtypes than floats are the new ones.

    Frozen parts are those of the new variables too: rounding would move their average away from them.

    Args:
        average: after `steps` updates.
        new: the variables of this step, of the same shapes.
        steps: updates so far, int32.
        decay: 0..1; the smaller of it and (1 + steps) / (10 + steps) is used.
        freeze: frozen parts of the model.
    """
    new, running = without_running(new)
    average, _ = without_running(average)
    kept = jnp.minimum(decay, (1 + steps) / (10 + steps))

    def one(old: Array, new: Array) -> Array:
        return (kept * old + (1 - kept) * new).astype(old.dtype) if _is_float(new) else new

    moved = jax.tree.map(one, average, new)
    if freeze:
        moved = jax.tree.map(lambda x, y, fixed: y if fixed else x, moved, new, frozen(new, freeze))
    return {**moved, **running}


def _is_float(x: Array) -> bool:
    """Whether an array's dtype is a floating one."""
    return jnp.issubdtype(x.dtype, jnp.inexact)
