"""What an experiment is: a model, data opened only when needed, how to train, how to evaluate.

The path of one batch: `Task.open(spec or None)` gives `Data`, whose spec decides the model: `model(spec)`.
`Data.train(...)` gives numpy structs -> the loop shards them over the devices -> `model.loss` -> the step.
`Data.once("val", ...)` gives finite batches -> `model.loss` and `model.predict` -> each evaluator's
`add(batch, predictions)` -> `report()`. Nothing here knows what an example is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import flax.linen as nn

from vision_jax.types import (
    Count,
    DataSpec,
    FractionBelow1,
    NotNegative,
    Picture,
    Positive,
    Report,
    UserError,
    Whole,
)

S = TypeVar("S", bound=DataSpec)

Batch = Any
Predictions = Any
Split = Literal["train", "val"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a stage of gradient training.

    Attributes:
        steps: optimizer steps in all.
        batch_size: examples a step, over all devices; divisible by their number times `accumulate`.
        optimizer: sgd (with momentum), adam, adamw, rmsprop (with momentum), or adadelta.
        learning_rate: the peak, reached after the warm-up.
        reference_batch: the batch size that `learning_rate` was found for: the rate is multiplied by
            batch_size / reference_batch for sgd, by its square root for the others. 0 does not scale it.
        momentum: of sgd and rmsprop.
        rms_decay: of rmsprop's running mean of squared gradients.
        rms_epsilon: added to that mean.
        rms_centered: whether rmsprop divides by the running variance instead: that mean less the square of
            the gradients' running mean.
        betas: of adam and adamw: decays of the running means of gradients and of squared gradients.
        adadelta_rho: of adadelta's running means of squared gradients and squared updates.
        adadelta_epsilon: added to both.
        weight_decay: decoupled in adamw, added to the gradients by the others; never on biases and norms.
        warmup_steps: linear rise of the learning rate from 0.
        schedule: what follows the warm-up: cosine to 0, steps down, or constant.
        milestones: for `step`: fractions of `steps` at which the rate is multiplied by `decay`.
        decay: for `step`: the factor.
        clip_norm: largest global gradient norm; 0 does not clip.
        precision: of the model's arithmetic in training. With bfloat16 the stored parameters, the sums of
            their gradients, statistics and losses are float32; evaluation and prediction are always float32.
        accumulate: microbatches per update, which each device computes one after the other: as many times
            less memory for activations, the same update, somewhat more time.
        ema: decay of an exponential moving average of parameters and statistics, which evaluation,
            prediction and the next stage then use; near 1, such as 0.999. 0 keeps none.
        eval_every: steps between evaluations; 0 evaluates only at the end.
        checkpoint_every: steps between checkpoints; 0 saves only at evaluations and the end.
        log_every: steps between lines of the log and rows of metrics.csv.
        workers: loader processes; 0 loads in threads of this one. Does not change the data's order.
    """

    steps: Count = 1000
    batch_size: Count = 8
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "adadelta"] = "sgd"
    learning_rate: Positive = 0.02
    reference_batch: Whole = 0
    momentum: FractionBelow1 = 0.9
    rms_decay: FractionBelow1 = 0.9
    rms_epsilon: Positive = 1.0
    rms_centered: bool = False
    betas: tuple[FractionBelow1, FractionBelow1] = (0.9, 0.999)
    adadelta_rho: FractionBelow1 = 0.95
    adadelta_epsilon: Positive = 1e-6
    weight_decay: NotNegative = 1e-4
    warmup_steps: Whole = 100
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    milestones: tuple[NotNegative, ...] = (0.67, 0.89)
    decay: Positive = 0.1
    clip_norm: NotNegative = 10.0
    precision: Precision = "float32"
    accumulate: Count = 1
    ema: FractionBelow1 = 0.0
    eval_every: Whole = 0
    checkpoint_every: Whole = 0
    log_every: Count = 10
    workers: Whole = 0


@runtime_checkable
class BatchIterator(Protocol):
    """An endless iterator whose position can be saved (grain's protocol).

    One that can read its own shard alone also has a method `shard(index, count)`: an iterator over the
    examples `index`, `index + count`, ... of each batch, with the same positions.
    """

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def get_state(self) -> Any:
        """The position, as JSON-serializable values or bytes."""
        ...

    def set_state(self, state: Any) -> None:
        """Moves to a position of `get_state`."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """Computes metrics over one pass of the evaluation data.

    Beside `add` or in its place it may have `add_losses(batch, losses)`, where `losses` are those of the loss
    terms that the model gives an example at a time: {name: Mean of numpy arrays [B]}. It is given what the
    `Evaluation` computes: predictions, losses or both.
    """

    def add(self, batch: Batch, predictions: Predictions, /) -> None:
        """Takes one batch and its predictions, both as numpy; skips examples that are not `example_valid`."""
        ...

    def report(self) -> Report:
        """The metrics of all batches added, and what each example contributed to them."""
        ...


class Data(ABC):
    """The data of an experiment, opened."""

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """What they decide about the model and its batches, or what a run's data decided."""

    @abstractmethod
    def train(self, batch_size: int, seed: int, workers: int) -> BatchIterator:
        """An endless iterator of numpy batches, shuffled and augmented."""

    @abstractmethod
    def once(self, split: Split, batch_size: int) -> Iterable[Batch]:
        """The examples of a split once, in order, not augmented, the last batch padded.

        Can be iterated over any number of times. `val` is what is evaluated. Where it also has a length and a
        method `part(start, stop)`, those batches alone are read.
        """

    def fingerprint(self, split: Split) -> str | None:
        """Hexadecimal digits that differ when examples of the split do.

        As far as can be told without reading them (from their files' names, sizes and times of change); None
        where it cannot be told.
        """
        return None

    @abstractmethod
    def evaluators(self) -> Sequence[Evaluator]:
        """Fresh evaluators for one pass over `once("val")`."""

    @abstractmethod
    def overfit(self, n: int) -> Data:
        """The first n training examples, not augmented, as training and evaluation data."""

    @abstractmethod
    def first(self, n: int) -> Data:
        """The same with the first n examples of the evaluation data alone."""

    @abstractmethod
    def summary(self) -> Report:
        """What `vision-jax show` prints and plots: counts, sizes, a picture."""


class Task(ABC, Generic[S]):
    """What a kind of problem (detection, classification, segmentation) needs around a model.

    Attributes:
        spec_type: the class of its specs.
        metric: name of the metric that decides the best checkpoint.
        minimize: whether a lower value of it is better.
    """

    spec_type: type[S]
    metric: str
    minimize: bool = False

    @abstractmethod
    def open(self, spec: S | None) -> Data:
        """Opens the data.

        Args:
            spec: that of a run: the data are brought to it, and what does not fit it (a class that the
                run has not seen) is a `UserError`. None lets the data decide.
        """

    def find(self, paths: Sequence[Path]) -> list[tuple[Path, str]]:
        """The files that `predict` reads for the paths that it is given, folders among them.

        Returns:
            Each file with its name for people.

        Raises:
            UserError: a path is not there, or a folder has nothing to predict from.
        """
        raise UserError(f"{type(self).__name__} predicts from no file: use `vision-jax sample`")

    def read(self, file: Path) -> Any:
        """One input of `predict`, of a file of `find`.

        Raises:
            UserError: it cannot be read.
        """
        raise UserError(f"{type(self).__name__} predicts from no file: use `vision-jax sample`")

    def prepare(self, inputs: Sequence[Any], ids: Sequence[int], spec: S) -> Batch:
        """A batch for `predict`, without any data set.

        Args:
            inputs: as `read` gives them.
            ids: one for each, which random numbers depend on.
            spec: of the run.
        """
        raise UserError(f"{type(self).__name__} predicts from no input: use `vision-jax sample`")

    def blank(self, ids: Sequence[int], spec: S) -> Batch:
        """A batch for `predict` where that samples without input; an example for each id."""
        raise UserError(f"{type(self).__name__} predicts from inputs: use `vision-jax predict`")

    @abstractmethod
    def plot_batch(self, batch: Batch, spec: S) -> Picture:
        """The batch as the model sees it, with its ground truth."""

    @abstractmethod
    def plot_predictions(self, batch: Batch, predictions: Predictions, spec: S) -> Picture:
        """Ground truth beside predictions; predictions alone where the batch has no ground truth."""

    @abstractmethod
    def to_json(self, batch: Batch, predictions: Predictions, spec: S) -> list[list[Any]]:
        """For each valid example its predictions, in the original input's units, JSON-serializable."""

    def plot_curves(self, rows: list[dict[str, float]]) -> Picture | None:
        """curves.png, of the rows of metrics.csv; None writes none."""
        return None


@dataclass(frozen=True)
class Fit:
    """A stage without gradients: SVMs on cached features, a box regressor.

    Process 0 fits; others wait for as long as it takes.

    Attributes:
        name: for the log and the checkpoint.
        fit: (model, variables, data, key, progress) -> variables. `progress(done, total, what)` shows how far
            it has come, as often as wanted.
    """

    name: str
    fit: Callable[[nn.Module, Any, Data, Any, Callable[..., None]], Any]


@dataclass(frozen=True)
class Cache:
    """A stage that computes a frozen method of the model once for every example, into the run folder.

    The stages after it train on these features: where the loss calls the method with its batch, they are
    returned (`vision_jax.training.features`); `Fit` finds them beside each batch (`WithFeatures`). These
    stages see examples as they are, not augmented. What the features depend on must stay frozen in
    them. A later `Cache` replaces the features of an earlier one.

    Attributes:
        method: its name; it takes a batch and returns arrays [B, ...], or a tree of them. It is called as in
            evaluation.
        name: for the log, the checkpoint and the folder `cache/NAME`.
        batch_size: examples that are computed at once, over the devices of a process.
        examples_per_shard: of a file, rounded up to whole batches; what a killed run has to compute again.
        dtype: of floats in the files. They are given to the model in the method's own dtype.
    """

    method: str
    name: str = "cache"
    batch_size: Count = 8
    examples_per_shard: Count = 64
    dtype: Literal["float32", "float16"] = "float32"


def _unchanged(model: nn.Module) -> nn.Module:
    return model


@dataclass(frozen=True)
class Gradient:
    """A stage of gradient training.

    Attributes:
        train: the settings.
        name: for the log and the checkpoint.
        model: module -> the module to train: with other settings, and the same parameters.
        freeze: frozen parts of the model, by their modules' names or prefixes of them: `backbone`, `stem`,
            `stage1` (`vision_jax.training.parts`). They are called as in evaluation.
        objective: the model's method that is minimized: (batch, train=True) -> {name: Mean}.
    """

    train: TrainConfig
    name: str = "train"
    model: Callable[[nn.Module], nn.Module] = _unchanged
    freeze: tuple[str, ...] = ()
    objective: str = "loss"


@dataclass(frozen=True)
class Player:
    """One of the players of an `Alternate`, such as a GAN's discriminator or its generator.

    Attributes:
        name: for the columns `train/NAME/...` of metrics.csv.
        objective: the model's method that the player minimizes: (batch, train=True) -> {name: Mean}.
        modules: the parts of the model that it trains, by their modules' names or prefixes of them.
        train: its settings; `steps` and `log_every` are in the player's own steps. `batch_size`, `workers`,
            `eval_every` and `checkpoint_every` are the same for all players; the last two are in steps of
            all players together, as the column `step` of metrics.csv.
    """

    name: str
    objective: str
    modules: tuple[str, ...]
    train: TrainConfig


@dataclass(frozen=True)
class Alternate:
    """A stage of gradient training by players who take turns, each on its own next batch.

    Each has its own optimizer, schedule, clipping, average and metrics. Only the modules of the player whose
    turn it is change their parameters and statistics; the others are called in training mode too, unlike
    frozen ones. Every module of the model belongs to one player.

    Attributes:
        players: in their order.
        steps: how many steps each takes in a round.
        name: for the log and the checkpoint.
    """

    players: tuple[Player, ...]
    steps: tuple[int, ...] = (1, 1)
    name: str = "train"


@dataclass(frozen=True)
class Evaluation:
    """One way to evaluate a checkpoint.

    Attributes:
        model: module -> the same module with other prediction settings.
        loss: whether to compute the losses.
        predict: whether to predict. At least one of the two.
        examples: use only the first so many of the evaluation data; None uses all.
    """

    model: Callable[[nn.Module], nn.Module] = _unchanged
    loss: bool = True
    predict: bool = True
    examples: int | None = None

    def __post_init__(self) -> None:
        if not (self.loss or self.predict):
            raise UserError("an Evaluation computes losses, predictions or both: leave one of them on")
        if self.examples is not None and self.examples < 1:
            raise UserError(f"an Evaluation of {self.examples} examples: give 1 or more, or None for all")

    def methods(self) -> tuple[str, ...]:
        """Of an evaluator, those that are called: `add_losses`, `add`."""
        return ("add_losses",) * self.loss + ("add",) * self.predict


@dataclass(frozen=True)
class Experiment:
    """What can be trained and evaluated, as a recipe returns it.

    Attributes:
        model: (the data's spec) -> the module, with `__call__`, `loss` and `predict`. It takes numbers and
            arrays from the spec, no names.
        task: its data, evaluators and plots.
        stages: run in order; usually one `Gradient`. The variables are initialized by the objectives of all.
        seed: of the initial parameters, the data's order and all random numbers.
        init: the model's random variables -> the variables that training starts from, of the same shapes
            (`vision_jax.pretrained.starting_from`); None starts from the random ones.
        evaluations: by name, ways to evaluate one checkpoint. "default" is the one during training; without
            it the unchanged module's losses and predictions are evaluated, on all of the data.
    """

    model: Callable[[Any], nn.Module]
    task: Task[Any]
    stages: tuple[Gradient | Alternate | Fit | Cache, ...]
    seed: int = 0
    init: Callable[[Any], Any] | None = None
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)

    def all_evaluations(self) -> dict[str, Evaluation]:
        """The evaluations by name, "default" first."""
        return {"default": self.evaluations.get("default", Evaluation()), **self.evaluations}
