"""Training on one batch, for the tests beside this file that overfit a few images.

Whether a test passes must not hang on rounding, which differs from processor to processor: a change of the
random seeds is a larger one, so the worst of ten seeds has to pass by a wide margin.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from vision_jax.training.state import initial_variables


class Overfitted(NamedTuple):
    """What some steps on one batch have made of a model.

    Attributes:
        variables: after the last step.
        losses: the sum of the loss terms before each step.
    """

    variables: Any
    losses: Float[Array, "steps"]


def warmed_up(peak: float, steps: int) -> optax.GradientTransformation:
    """Adam whose rate rises over a tenth of the steps and falls to zero, with clipped gradients.

    What trains a detector from scratch within some 100 steps from any seed.
    """
    rate = optax.warmup_cosine_decay_schedule(0.0, peak, steps // 10, steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def overfit(model, batch, optimizer: optax.GradientTransformation, steps: int, variables=None) -> Overfitted:
    """Takes `steps` steps on one batch, each with random numbers of its own.

    A loop in Python: XLA's own takes three times as long a step on a CPU.
    """
    if variables is None:
        variables = initial_variables(model, jax.random.key(0), batch)
    collections = {name: value for name, value in variables.items() if name != "params"}

    @jax.jit
    def step(params, collections, moments, batch, key):
        def total(params):
            terms, changed = model.apply(
                {"params": params, **collections},
                batch,
                method="loss",
                rngs={"sample": key},
                mutable=list(collections),
            )
            return sum(term.value() for term in terms.values()), changed

        (value, collections), gradient = jax.value_and_grad(total, has_aux=True)(params)
        updates, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, updates), collections, moments, value

    params, moments, losses = variables["params"], optimizer.init(variables["params"]), []
    for key in jax.random.split(jax.random.key(1), steps):
        params, collections, moments, value = step(params, collections, moments, batch, key)
        losses.append(value)
    return Overfitted({"params": params, **collections}, jnp.stack(losses))


def best_of_class(found, image: int, label: int) -> int:
    """The index of an image's detection of a class with the highest score; fails where there is none."""
    of_class = np.flatnonzero(np.asarray(found.valid[image]) & (np.asarray(found.labels[image]) == label))
    assert len(of_class), f"nothing of class {label} is found in image {image}"
    return int(of_class[0])
