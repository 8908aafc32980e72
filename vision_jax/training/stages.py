"""Stages of gradient training as players taking turns; a `Gradient` is one player alone.

The steps of a stage are those of all its players together. With steps (3, 1) its rounds are of four: of the
players 0, 0, 0 and 1. What happens between steps, such as a checkpoint, may fall inside a round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn

from vision_jax.training.experiment import Alternate, Cache, Fit, Gradient, Player
from vision_jax.training.freezing import check_freeze
from vision_jax.training.optimizers import check_config
from vision_jax.training.parallel import check_batch_size
from vision_jax.training.parts import Variables, check_partition
from vision_jax.training.state import TrainState
from vision_jax.training.step import configured_state, configured_step
from vision_jax.types import UserError

Stage = Gradient | Alternate | Fit | Cache

# What all players of a stage have in common, as they share its data, evaluations and checkpoints.
_OF_THE_STAGE = ("batch_size", "workers", "eval_every", "checkpoint_every")


def players(stage: Stage) -> tuple[Player, ...]:
    """Who acts in a stage: for a `Gradient` one player without a name; for the others none."""
    if isinstance(stage, Gradient):
        return (Player("", stage.objective, (), stage.train),)
    return stage.players if isinstance(stage, Alternate) else ()


def turns(stage: Stage) -> tuple[int, ...]:
    """The player of each step of a round, by its index."""
    counts = stage.steps if isinstance(stage, Alternate) else (1,)
    return tuple(player for player, count in enumerate(counts) for _ in range(count))


def steps_taken(stage: Stage, done: int) -> tuple[int, ...]:
    """Each player's own steps, of the stage's first `done`."""
    round_ = turns(stage)
    rounds, rest = divmod(done, len(round_))
    return tuple(
        rounds * round_.count(player) + round_[:rest].count(player) for player in range(len(players(stage)))
    )


def step_count(stage: Stage) -> int:
    """The steps of a stage, those of all its players; a stage without gradients counts as one."""
    return sum(player.train.steps for player in players(stage)) or 1


def column(player: Player) -> str:
    """What the names of a player's columns in metrics.csv begin with."""
    return f"train/{player.name}/" if player.name else "train/"


def check_stage(stage: Stage, devices: int) -> None:
    """Checks a stage's settings before any data are opened.

    Args:
        stage: of the experiment.
        devices: how many train, of all processes.

    Raises:
        UserError: naming the setting and what is allowed.
    """
    for player in players(stage):
        check_config(player.train)
        check_batch_size(player.train.batch_size, devices, player.train.accumulate)
    if isinstance(stage, Alternate):
        _check_players(stage)


def _check_players(stage: Alternate) -> None:
    """Checks that the players of a stage fit together."""
    names = [player.name for player in stage.players]
    where = f"stage {stage.name}"
    if not names or any(not name or "/" in name for name in names) or len(set(names)) < len(names):
        raise UserError(f"{where}: give players with a name each, without a slash; they are {names}")
    if len(stage.steps) != len(names) or min(stage.steps) < 1:
        raise UserError(f"{where}: steps is {stage.steps}; give each of {len(names)} players 1 or more")
    first = stage.players[0]
    rounds = first.train.steps // stage.steps[0]
    for player, steps in zip(stage.players, stage.steps, strict=True):
        if not player.modules:
            raise UserError(f"{where}: player {player.name} names no modules; name those that it trains")
        if player.train.steps != rounds * steps:
            raise UserError(
                f"{where}: train.steps is {first.train.steps} for {first.name}, {stage.steps[0]} a round, "
                f"and {player.train.steps} for {player.name}, {steps} a round: give all the same whole rounds"
            )
        for name in _OF_THE_STAGE:
            a, b = getattr(first.train, name), getattr(player.train, name)
            if a != b:
                raise UserError(
                    f"{where}: train.{name} is {a} for player {first.name} and {b} for {player.name}: "
                    "it is the stage's, so give all players the same"
                )


def methods(stages: Sequence[Stage], model: nn.Module) -> tuple[str, ...]:
    """The methods whose variables a model needs: every stage's objectives, then `loss` and `predict`.

    Args:
        stages: of an experiment.
        model: of the experiment; it need not have `loss` where that is no objective, nor `predict`.

    Raises:
        UserError: the model lacks an objective.
    """
    objectives = dict.fromkeys(player.objective for stage in stages for player in players(stage))
    for name in objectives:
        if not callable(getattr(model, name, None)):
            raise UserError(f"objective: {type(model).__name__} has no method {name!r}")
    return tuple(objectives | dict.fromkeys(name for name in ("loss", "predict") if hasattr(model, name)))


def initial_states(stage: Stage, variables: Variables) -> list[TrainState]:
    """Each player's state before its first step; all hold the same variables.

    Args:
        stage: of gradient training.
        variables: of the model.
    """
    return [configured_state(variables, player.train, player.modules) for player in players(stage)]


def check_modules(stage: Stage, variables: Variables) -> None:
    """Checks that a stage's frozen parts and its players' modules are those of the model.

    Raises:
        UserError: naming what is not, and the parts that the model has.
    """
    if isinstance(stage, Gradient):
        check_freeze(variables["params"], stage.freeze)
    if isinstance(stage, Alternate):
        check_partition(variables, {player.name: player.modules for player in stage.players})


def stage_steps(stage: Stage, model: nn.Module) -> list[Callable[..., Any]]:
    """Each player's step, from one device's view, for a state of `initial_states`.

    Args:
        stage: of gradient training.
        model: of the experiment.
    """
    if isinstance(stage, Gradient):
        return [configured_step(stage.model(model), stage.train, stage.freeze, stage.objective)]
    return [
        configured_step(model, player.train, objective=player.objective, modules=player.modules)
        for player in players(stage)
    ]
