"""What an experiment is: a model, data opened only when needed, how to train, how to evaluate.

The path of one batch: `Data.train(...)` gives numpy structs -> the loop shards them over the devices
-> `model.loss` -> the step. `Data.evaluation(...)` gives finite batches -> `model.predict` -> each
evaluator's `add(batch, predictions)` -> `report()`. Nothing here knows what a box is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import flax.linen as nn
import numpy as np

from vision_jax.types import (
    Count,
    FractionBelow1,
    NotNegative,
    Picture,
    Positive,
    Report,
    Whole,
)

Batch = Any
Predictions = Any
Classes = tuple[str, ...]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a stage of gradient training.

    Attributes:
        steps: optimizer steps in all.
        batch_size: images a step, over all devices; divisible by their number times `accumulate`.
        optimizer: sgd (with momentum), adamw, or rmsprop (with momentum).
        learning_rate: the peak, reached after the warm-up.
        reference_batch: the batch size that `learning_rate` was found for: the rate is multiplied by
            batch_size / reference_batch for sgd, by its square root for the others. 0 does not scale it.
        momentum: of sgd and rmsprop.
        rms_decay: of rmsprop's running mean of squared gradients.
        rms_epsilon: added to that mean.
        weight_decay: added to gradients by sgd and rmsprop, decoupled in adamw; never on biases and norms.
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
    optimizer: Literal["sgd", "adamw", "rmsprop"] = "sgd"
    learning_rate: Positive = 0.02
    reference_batch: Whole = 0
    momentum: FractionBelow1 = 0.9
    rms_decay: FractionBelow1 = 0.9
    rms_epsilon: Positive = 1.0
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
    """Computes metrics over one pass of the evaluation data."""

    def add(self, batch: Batch, predictions: Predictions, /) -> None:
        """Takes one batch and its predictions, both as numpy; skips examples that are not `example_valid`."""
        ...

    def report(self) -> Report:
        """The metrics of all batches added."""
        ...


@dataclass(frozen=True)
class Data:
    """The data of an experiment, opened.

    Attributes:
        classes: class names; their number is K.
        train: (batch_size, seed, workers) -> an endless iterator of numpy batches, augmented.
        evaluation: (batch_size) -> the evaluation images once, in order, the last batch padded.
        evaluators: () -> fresh evaluators for one pass.
        overfit: (n) -> the first n training images, not augmented, as training and evaluation data.
        summary: () -> what `vision-jax show` prints and plots: counts, sizes, a picture.
    """

    classes: Classes
    train: Callable[[int, int, int], BatchIterator]
    evaluation: Callable[[int], Iterable[Batch]]
    evaluators: Callable[[], Sequence[Evaluator]]
    overfit: Callable[[int], Data]
    summary: Callable[[], Report]


@dataclass(frozen=True)
class Task:
    """What a kind of problem (detection, classification, segmentation) needs around a model.

    Attributes:
        open: (classes or None) -> Data. Given a run's classes, labels are mapped to them by name and a
            class the run has not seen is a `UserError`; given None, the data's own classes are used.
        prepare: (images, ids) -> a batch for `predict` from uint8 RGB images [h, w, 3] of any sizes,
            without any data set.
        plot_batch: (batch, classes) -> the batch as the model sees it, with its ground truth.
        plot_predictions: (batch, predictions, classes) -> ground truth beside predictions (predictions alone
            where the batch has no ground truth).
        to_json: (batch, predictions, classes) -> for each valid example, its predictions in the original
            image's pixels, JSON-serializable.
        metric: name of the metric that decides the best checkpoint; higher is better.
        resolve: () -> values by name, resolved from the data, for arguments that were left open (None), such
            as `canvas`. The command line records them with a run's arguments: predicting needs no data.
        plot_curves: rows of metrics.csv -> curves.png; None writes none.
    """

    open: Callable[[Classes | None], Data]
    prepare: Callable[[Sequence[np.ndarray], Sequence[int]], Batch]
    plot_batch: Callable[[Batch, Classes], Picture]
    plot_predictions: Callable[[Batch, Predictions, Classes], Picture]
    to_json: Callable[[Batch, Predictions, Classes], list[Any]]
    metric: str
    resolve: Callable[[], Mapping[str, Any]] = dict
    plot_curves: Callable[[list[dict[str, float]]], Picture] | None = None


@dataclass(frozen=True)
class Fit:
    """A stage without gradients: SVMs on cached features, a box regressor, a frozen backbone's cache.

    Attributes:
        name: for the log and the checkpoint.
        fit: (model, variables, data, key) -> variables.
    """

    name: str
    fit: Callable[[nn.Module, Any, Data, Any], Any]


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
            `stage1` (`vision_jax.training.freezing`).
    """

    train: TrainConfig
    name: str = "train"
    model: Callable[[nn.Module], nn.Module] = _unchanged
    freeze: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """What can be trained and evaluated, as a recipe returns it.

    Attributes:
        model: (classes) -> the module, with `__call__`, `loss` and `predict`.
        task: its data, evaluators and plots.
        stages: run in order; usually one `Gradient`.
        seed: of the initial parameters, the data's order and all random numbers.
        init: the model's random variables -> the variables that training starts from, of the same shapes
            (`vision_jax.pretrained.starting_from`); None starts from the random ones.
        evaluations: named ways to predict from one checkpoint: module -> the same module with other
            prediction settings. "default" is the unchanged module.
    """

    model: Callable[[Classes], nn.Module]
    task: Task
    stages: tuple[Gradient | Fit, ...]
    seed: int = 0
    init: Callable[[Any], Any] | None = None
    evaluations: Mapping[str, Callable[[nn.Module], nn.Module]] = field(default_factory=dict)
