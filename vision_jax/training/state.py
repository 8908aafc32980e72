"""What training changes from step to step, and where it starts."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.core import eval_jaxpr
from jax.interpreters import partial_eval
from jaxtyping import Array, Key

from vision_jax.training.experiment import Batch
from vision_jax.types import UserError

Variables = dict[str, Any]


@struct.dataclass
class TrainState:
    """The state of a gradient stage, equal on all devices.

    The fields are of any type, for JAX builds the struct of shapes, numpy arrays and flags as well.

    Attributes:
        step: int32 scalar, optimizer steps taken in this stage.
        params: the learnt parameters.
        collections: the model's other variables by collection, such as `batch_stats`.
        opt_state: the optimizer's.
    """

    step: Any
    params: Any
    collections: Any
    opt_state: Any

    @classmethod
    def create(cls, variables: Variables, optimizer: optax.GradientTransformation) -> TrainState:
        """The state before the first step."""
        collections = {name: tree for name, tree in variables.items() if name != "params"}
        return cls(jnp.int32(0), variables["params"], collections, optimizer.init(variables["params"]))

    @property
    def variables(self) -> Variables:
        """What `model.apply` takes."""
        return {"params": self.params, **self.collections}


def initial_variables(model: nn.Module, key: Key[Array, ""], batch: Batch) -> Variables:
    """Draws a model's first parameters.

    `model.init` traces the whole forward pass. Here the trace is cut down to what the parameters
    depend on and run one operation after the other, so that parameters of one shape share their
    compiled operations, and nothing of the forward pass is compiled.

    Args:
        model: with a `loss` method.
        key: parameters and the collection `sample` draw from it.
        batch: one device's share; only its shapes matter.

    Returns:
        {"params": ..., and the model's other collections}, on the default device.
    """

    def initialise(key: Key[Array, ""], batch: Batch) -> Variables:
        parameters, sample = jax.random.split(key)
        return dict(model.init({"params": parameters, "sample": sample}, batch, method="loss"))

    traced, shapes = jax.make_jaxpr(initialise, return_shape=True)(key, batch)
    needed, used = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
    arguments = [x for x, is_used in zip(jax.tree.leaves((key, batch)), used, strict=True) if is_used]
    leaves = eval_jaxpr(needed, traced.consts, *arguments)
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def check_fits(model: nn.Module, variables: Variables, batch: Batch, where: str) -> None:
    """Checks that variables from a checkpoint are those of the model.

    Args:
        model: as the experiment defines it now.
        variables: as they were saved.
        batch: one device's share; only its shapes matter.
        where: the checkpoint, for the message.

    Raises:
        UserError: naming the first variable that is missing, surplus or of another shape.
    """
    keys = {"params": jax.random.key(0), "sample": jax.random.key(0)}
    expected = jax.eval_shape(lambda b: dict(model.init(keys, b, method="loss")), batch)
    wanted, found = _shapes(expected), _shapes(variables)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise UserError(
                f"{where} was written by another model: {name} is {found.get(name, 'missing')} in the "
                f"checkpoint and {wanted.get(name, 'missing')} in the experiment as it is now; undo the "
                "change or start a new run"
            )


def _shapes(tree: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        "/".join(str(getattr(k, "key", k)) for k in path): f"{x.dtype}{list(x.shape)}" for path, x in leaves
    }
