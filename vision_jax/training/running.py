"""Running values: what a model accumulates over training steps, updated once a step by the whole batch.

Statistics of a batch norm are a function of the step's batch alone, and each device can compute them. A
baseline or a counter is not: its new value depends on sums over all devices and microbatches. So in a step a
model only adds to sums (`vision_jax.layers.running`); the step adds them up and moves the value once. A mean
of the devices' means would weight examples unevenly.

Each entry of the two collections is a dict of arrays of one shape (`decay` is a scalar):

    running_means: {value, total, weight, decay}    value = decay * value + (1 - decay) * total / weight,
                                                    unchanged where the weight is 0
    running_sums:  {value, total}                   value + total

The sums are 0 between steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from vision_jax.training.parts import Variables

MEANS, SUMS = "running_means", "running_sums"


def without_running(collections: Variables) -> tuple[Variables, Variables]:
    """Separates the two collections of running values from all others.

    Returns:
        (the others, the running values).
    """
    running = {name: tree for name, tree in collections.items() if name in (MEANS, SUMS)}
    return {name: tree for name, tree in collections.items() if name not in running}, running


def advanced(before: Variables, after: Variables, summed: Callable[[Any], Any]) -> Variables:
    """The running values after a step.

    Args:
        before: those of the step's start.
        after: those that the model has written, whose sums are of one device, or one microbatch of it.
        summed: adds up sums, a dict of arrays, over microbatches and devices.
    """
    return {
        name: _advanced(tree, after[name], summed, _mean if name == MEANS else _sum)
        for name, tree in before.items()
    }


def _advanced(before: Any, after: Any, summed: Callable[[Any], Any], rule: Callable[..., Array]) -> Any:
    """A tree of entries after a step, by the rule for one."""
    if isinstance(before.get("value"), Mapping) or "value" not in before:
        return {name: _advanced(tree, after[name], summed, rule) for name, tree in before.items()}
    sums = summed({name: after[name] for name in ("total", "weight") if name in after})
    zeros = {name: jnp.zeros_like(before[name]) for name in sums}
    return {**before, **zeros, "value": rule(before, **sums)}


def _mean(before: Mapping[str, Array], total: Array, weight: Array) -> Array:
    """A running mean after a step; unchanged where nothing counted."""
    mean = total / jnp.where(weight > 0, weight, 1)
    moved = before["decay"] * before["value"] + (1 - before["decay"]) * mean
    return jnp.where(weight > 0, moved, before["value"])


def _sum(before: Mapping[str, Array], total: Array) -> Array:
    """A running sum after a step."""
    return before["value"] + total
