"""A stage of gradient training while it runs: one model, and for each player a state and a compiled step."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Key

from vision_jax.training.experiment import Batch
from vision_jax.training.memory import KnownCost
from vision_jax.training.parallel import Device, data_parallel, replicate
from vision_jax.training.parts import Variables, joined, split
from vision_jax.training.stages import Stage, check_modules, initial_states, players, stage_steps, turns
from vision_jax.training.state import TrainState
from vision_jax.training.step import StepMetrics


class Players:
    """The players of a stage, who train parts of one model in turn.

    Args:
        stage: of gradient training.
        model: of the experiment.
        variables: of the model; of a checkpoint, those for evaluation.
        devices: of the run.
        key: of the stage.

    Attributes:
        states: each player's; all hold the newest variables. A step reuses their memory.

    Raises:
        UserError: frozen parts or players' modules are not those of the model.
    """

    def __init__(
        self, stage: Stage, model: nn.Module, variables: Variables, devices: list[Device], key: Key[Array, ""]
    ) -> None:
        check_modules(stage, variables)
        self._players = players(stage)
        self._turns = turns(stage)
        self._devices = devices
        self._steps = [KnownCost(data_parallel(step, devices)) for step in stage_steps(stage, model)]
        # So that two players do not sample the same random numbers.
        several = len(self._players) > 1
        self._keys = [jax.random.fold_in(key, i) if several else key for i in range(len(self._players))]
        self.states = self._replicated(jax.jit(partial(initial_states, stage))(variables))

    def step(self, done: int, batch: Batch) -> StepMetrics:
        """The player whose turn it is takes a step.

        Args:
            done: steps of the stage before this one.
            batch: of `parallel.shard`.
        """
        i = self._turns[done % len(self._turns)]
        state, outcome = self._steps[i](self.states[i], batch, self._keys[i])
        self.states = _with_variables(self.states, state)
        self.states[i] = state
        return outcome

    @property
    def cost(self) -> dict[str, float]:
        """The largest costs (`KnownCost`) of the players' steps, of those compiled so far."""
        costs = [step.cost for step in self._steps if step.cost]
        return {name: max(cost[name] for cost in costs) for name in (costs[0] if costs else {})}

    @property
    def evaluation_variables(self) -> Variables:
        """For evaluation, prediction and the next stage: of each player the average, where it keeps one."""
        variables = self.states[0].variables
        for player, state in zip(self._players, self.states, strict=True):
            if state.averaged is not None:
                variables = joined(state.averaged, split(variables, player.modules)[1])
        return variables

    def to_resume(self) -> dict[str, Any]:
        """What a checkpoint holds besides the variables for evaluation."""
        own = [{"step": state.step, "opt_state": state.opt_state} for state in self.states]
        averaged = any(state.averaged is not None for state in self.states)
        return {"players": own, **({"variables": self.states[0].variables} if averaged else {})}

    def restore(self, saved: dict[str, Any]) -> None:
        """Continues from a checkpoint, whose variables for evaluation these players were begun with.

        Args:
            saved: what `to_resume` gave when it was saved.
        """
        variables = saved.get("variables", self.states[0].variables)
        collections = {name: tree for name, tree in variables.items() if name != "params"}
        self.states = self._replicated(
            [
                replace(state, **own, params=variables["params"], collections=collections)
                for state, own in zip(self.states, saved["players"], strict=True)
            ]
        )

    def _replicated(self, states: list[TrainState]) -> list[TrainState]:
        """The states on every device; their variables, which they have in common, once."""
        first, *others = states
        rest = [replace(state, params=None, collections=None) for state in others]
        first, rest = replicate((first, rest), self._devices)
        return _with_variables([first, *rest], first)


def _with_variables(states: list[TrainState], of: TrainState) -> list[TrainState]:
    """The states with the variables of one of them."""
    return [replace(state, params=of.params, collections=of.collections) for state in states]
