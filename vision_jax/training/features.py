"""Features of a frozen method, in the location of the method itself.

A stage after `Cache` is given batches with features. The model is written as if there were none: where its
loss or its `predict` calls the frozen method with the batch that it was given, the cached features are
returned; with any other batch the method is computed. So one model trains on cached features, and predicts
from inputs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import struct
from jax.extend.core import ClosedJaxpr, Literal

from vision_jax.training.experiment import Batch
from vision_jax.training.state import Variables
from vision_jax.types import AXIS, UserError


@struct.dataclass
class WithFeatures:
    """A batch, and what a frozen method of the model gives for it.

    Attributes:
        batch: arrays [B, ...].
        features: the method's outputs, arrays [B, ...]; 0 for padding examples.
        method: its name.
    """

    batch: Any
    features: Any
    method: str = struct.field(pytree_node=False)


def without_features(batch: Batch) -> Batch:
    """The batch as the data have it."""
    return batch.batch if isinstance(batch, WithFeatures) else batch


def apply_model(model: nn.Module, variables: Variables, batch: Batch, *, method: str, **options: Any) -> Any:
    """`model.apply`, with cached features where the batch has them.

    Args:
        model: the module.
        variables: of it.
        batch: of the data, or `WithFeatures`.
        method: to call.
        options: of `flax.linen.Module.apply`, and further arguments of the method.

    Raises:
        UserError: the method trains (`train=True`) on a batch with features and does not ask for them.
    """
    if not isinstance(batch, WithFeatures):
        return model.apply(variables, batch, method=method, **options)
    used = False

    def cached(call: Any, args: Sequence[Any], kwargs: dict[str, Any], context: Any) -> Any:
        nonlocal used
        given = args[0] if args else kwargs.get("batch")
        if context.method_name != batch.method or context.module.path or given is not batch.batch:
            return call(*args, **kwargs)
        used = True
        return batch.features

    with nn.intercept_methods(cached):
        outputs = model.apply(variables, batch.batch, method=method, **options)
    if options.get("train") and not used:
        raise UserError(
            f"{type(model).__name__}.{method} does not call {batch.method}(batch) with its own batch, so the "
            f"cached features are not used: call it, or take out the stage Cache({batch.method!r})"
        )
    return outputs


@dataclass(frozen=True)
class FrozenMethod:
    """What a method of a model computes, for one example.

    Attributes:
        name: of the method.
        program: a sha256 of its operations: of the code, of the model's settings that it depends on, of the
            shapes of an example.
        used: paths of the variables that it depends on, ("params", "conv1", "kernel").
        outputs: a tree of shapes [1, ...] and dtypes.
    """

    name: str
    program: str
    used: tuple[tuple[str, ...], ...]
    outputs: Any

    @classmethod
    def of(cls, model: nn.Module, variables: Variables, batch: Batch, name: str) -> FrozenMethod:
        """Traces a method; nothing is computed.

        Args:
            model: with the method, which takes a batch.
            variables: of the model; only shapes matter.
            batch: arrays [B, ...]; only shapes matter.
            name: of the method.

        Raises:
            UserError: the model has no such method, or an output without the batch's axis.
        """
        if not callable(getattr(model, name, None)):
            raise UserError(f"Cache: {type(model).__name__} has no method {name!r}")

        def call(variables: Variables, batch: Batch, key: jax.Array) -> Any:
            return model.apply(variables, batch, method=name, rngs={"sample": key})

        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), variables)
        example = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *np.shape(x)[1:]), x.dtype), batch)
        key = jax.eval_shape(lambda: jax.random.key(0))
        traced, outputs = jax.make_jaxpr(call, axis_env=[(AXIS, 1)], return_shape=True)(shapes, example, key)
        for leaf in jax.tree.leaves(outputs):
            if leaf.shape[:1] != (1,):
                raise UserError(
                    f"Cache: {type(model).__name__}.{name} gives an array of shape {leaf.shape} for one "
                    "example; all that it gives must have the batch's axis first"
                )
        needed = _needed_inputs(traced)
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
        used = tuple(
            tuple(str(part.key) for part in path)
            for path, is_needed in zip(paths, needed, strict=False)
            if is_needed
        )
        return cls(name, _digest(traced), used, outputs)

    def weights(self, variables: Variables) -> str:
        """A sha256 of the variables that the method depends on."""
        digest = hashlib.sha256()
        for path in self.used:
            leaf: Any = variables
            for name in path:
                leaf = leaf[name]
            array = np.asarray(leaf)
            digest.update(f"{'/'.join(path)} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


def _needed_inputs(traced: ClosedJaxpr) -> list[bool]:
    """Of each input of a program, whether an output depends on it; a called function needs all of its own."""
    needed = {v for v in traced.jaxpr.outvars if not isinstance(v, Literal)}
    for equation in reversed(traced.jaxpr.eqns):
        if equation.effects or not needed.isdisjoint(equation.outvars):
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
    return [v in needed for v in traced.jaxpr.invars]


def _digest(traced: ClosedJaxpr) -> str:
    """A sha256 of a program's text, without addresses of Python objects, and of its constants."""
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "0x", str(traced.jaxpr)).encode())
    for constant in traced.consts:
        digest.update(np.asarray(constant).tobytes())
    return digest.hexdigest()
