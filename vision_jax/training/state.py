"""What training changes from step to step, and where it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Key

from vision_jax.training.experiment import Batch
from vision_jax.training.parts import Parts, Variables, split
from vision_jax.types import UserError


@struct.dataclass
class TrainState:
    """The state of a gradient stage, equal on all devices.

    The fields are typed Any: JAX also builds the struct of shapes, of numpy arrays and of flags.

    Attributes:
        step: int32 scalar, optimizer steps taken in this stage.
        params: the parameters.
        collections: the model's other variables by collection, such as `batch_stats`.
        opt_state: the optimizer's, of those parameters that it updates.
        averaged: a moving average of these and of their modules' collections, as `variables`; None where none
            is kept.
        numbers: the numbers of the stage's settings (`Numbers`), which the step reads and does not change.
    """

    step: Any
    params: Any
    collections: Any
    opt_state: Any
    averaged: Any = None
    numbers: Any = None

    @classmethod
    def create(
        cls,
        variables: Variables,
        optimizer: optax.GradientTransformation,
        ema: bool = False,
        numbers: Any = None,
        modules: Parts = (),
    ) -> TrainState:
        """The state before the first step.

        Args:
            variables: of the model.
            optimizer: the update rule.
            ema: whether to keep a moving average; it starts as a copy, since a donated state must not hold an
                array twice.
            numbers: for a step that reads them from its state.
            modules: the parts of the model that are trained; () for all of it.
        """
        collections = {name: tree for name, tree in variables.items() if name != "params"}
        own, _ = split(dict(variables), modules)
        averaged = jax.tree.map(jnp.copy, own) if ema else None
        opt_state = optimizer.init(own["params"])
        return cls(jnp.int32(0), variables["params"], collections, opt_state, averaged, numbers)

    @property
    def variables(self) -> Variables:
        """What `model.apply` takes."""
        return {"params": self.params, **self.collections}

    @property
    def evaluation_variables(self) -> Variables:
        """For evaluation, prediction and the next stage: the moving average where there is one."""
        return self.variables if self.averaged is None else self.averaged


def initialization(
    model: nn.Module, methods: Sequence[str] = ("loss",)
) -> Callable[[Key[Array, ""], Batch], Variables]:
    """Builds a model's initialization: (key, one device's shard [b, ...]) -> its variables.

    Each method makes the variables that it uses. Flax's keys of a module's parameters depend on the order in
    which the method asks for them, so what an earlier method has made is kept, and each has a key of its own.

    Args:
        model: with the methods.
        methods: names, in the order in which they are called; each takes a batch.
    """

    def initialize(key: Key[Array, ""], batch: Batch) -> Variables:
        parameters, sample = jax.random.split(key)
        found: dict[tuple[str, ...], Any] = {}
        for i, method in enumerate(methods):
            keys = {"params": jax.random.fold_in(parameters, i) if i else parameters, "sample": sample}
            variables = dict(model.init(keys, batch, method=method))
            found = {**flatten_dict(variables, keep_empty_nodes=True), **found}
        return unflatten_dict(found)

    return initialize


def initial_variables(
    model: nn.Module, key: Key[Array, ""], batch: Batch, methods: Sequence[str] = ("loss",)
) -> Variables:
    """Initializes a model's parameters, as one program.

    `jax.jit` leaves out what no output depends on, so the forward pass is traced but not compiled; and
    the program is cached between runs, which single operations are too small for. On CPUs it is not
    optimized: for a few hundred random arrays computed once, LLVM would take six times as long.

    Args:
        model: with the methods.
        key: of the parameters' random numbers and of the collection `sample`.
        batch: one device's shard [b, ...]; most models use its shapes alone.
        methods: that will be called in training, evaluation and prediction.

    Returns:
        {"params": ..., and the model's other collections}, on the default device.
    """
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(initialization(model, methods), compiler_options=options)(key, batch)


def check_fits(
    model: nn.Module, variables: Variables, batch: Batch, where: str, methods: Sequence[str] = ("loss",)
) -> None:
    """Checks that variables from a checkpoint are those of the model.

    Args:
        model: as the experiment defines it now.
        variables: as they were saved.
        batch: one device's shard [b, ...]; only its shapes matter.
        where: the checkpoint, for the message.
        methods: that the variables were initialized by.

    Raises:
        UserError: naming the first variable that is missing, surplus or of another shape.
    """
    expected = jax.eval_shape(initialization(model, methods), jax.random.key(0), batch)
    wanted, found = _shapes(expected), _shapes(variables)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise UserError(
                f"{where} was written by another model: {name} is {found.get(name, 'missing')} in the "
                f"checkpoint and {wanted.get(name, 'missing')} in the experiment as it is now; undo the "
                "change or start a new run"
            )


def _shapes(tree: Any) -> dict[str, str]:
    """Dtype and shape of each array, as text, by its path: {"params/head/bias": "float32[3]"}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        "/".join(str(getattr(k, "key", k)) for k in path): f"{x.dtype}{list(x.shape)}" for path, x in leaves
    }
