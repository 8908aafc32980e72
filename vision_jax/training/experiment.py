"""What an experiment is: a model, data opened only when needed, how to train, how to judge.

The way of one batch: `Data.train(...)` gives numpy structs -> the loop splits them over the devices
-> `model.loss` -> the step. `Data.evaluation(...)` gives finite batches -> `model.predict` -> each
evaluator's `add(batch, predictions)` -> `report()`. Nothing here knows what a box is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import flax.linen as nn
import numpy as np
from jaxtyping import UInt8

from vision_jax.types import (
    Count,
    FractionBelow1,
    NotNegative,
    Positive,
    Report,
    Whole,
)

Batch = Any
Predictions = Any
Classes = tuple[str, ...]
Picture = UInt8[np.ndarray, "h w 3"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainConfig:
    """How long and how to train.

    Attributes:
        steps: optimizer steps in all.
        batch_size: images a step, over all devices; divisible by their number times `accumulate`.
        optimizer: sgd (with momentum), adamw, or rmsprop (with momentum).
        learning_rate: the peak, reached after the warm-up.
        reference_batch: the batch size that `learning_rate` was found for: the rate is multiplied by
            batch_size / reference_batch for sgd, by its square root for the others. 0 leaves it as it is.
        momentum: of sgd and rmsprop.
        rms_decay: of rmsprop's running mean of squared gradients.
        rms_epsilon: added to that mean.
        weight_decay: added to gradients by sgd and rmsprop, decoupled in adamw; never on biases and norms.
        warmup_steps: linear rise of the learning rate from 0.
        schedule: what follows the warm-up: cosine to 0, steps down, or constant.
        milestones: for `step`: fractions of `steps` at which the rate is multiplied by `decay`.
        decay: for `step`: the factor.
        clip_norm: largest global gradient norm; 0 does not clip.
        precision: of the model's arithmetic in training. With bfloat16 the weights kept, their gradients'
            sums, statistics and losses stay float32; evaluation and prediction are float32 always.
        accumulate: parts that each device's share of a batch is taken in, one after the other, for one
            update: as many times less memory, the same update, somewhat more time.
        ema: decay of an exponential moving average of parameters and statistics, which evaluation,
            prediction and the next stage then use; 0 keeps none. Near 1, such as 0.999.
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

    One that can leave out what other processes read has a method `shard(index, count)` too, which gives
    the iterator of each batch's examples `index`, `index + count`, ...; its positions are the same.
    """

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def get_state(self) -> Any:
        """The position, as JSON-able values or bytes."""
        ...

    def set_state(self, state: Any) -> None: ...


@runtime_checkable
class Evaluator(Protocol):
    """Judges one pass over the evaluation data."""

    def add(self, batch: Batch, predictions: Predictions, /) -> None:
        """Takes one batch and what was predicted for it, both as numpy; skips invalid examples."""
        ...

    def report(self) -> Report: ...


@dataclass(frozen=True)
class Data:
    """The data of an experiment, opened.

    Attributes:
        classes: class names; their number is K.
        train: (batch_size, seed, workers) -> an endless iterator of numpy batches, augmented.
        evaluation: (batch_size) -> the evaluation images once, in order, last batch filled up.
        evaluators: (classes) -> fresh evaluators for one pass.
        overfit: (n) -> the first n training images, not augmented, as training and evaluation data.
        summary: what `vision-jax show` prints and draws: counts, sizes, a picture.
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
        prepare: (images, ids) -> a batch for `predict` from photographs of any size, without any data set.
        plot_batch: (batch, classes) -> the batch as the model sees it, with its truth.
        plot_predictions: (batch, predictions, classes) -> truth beside prediction (prediction alone
            where the batch carries no truth).
        to_json: (batch, predictions, classes) -> for each valid example, a JSON-able answer in the
            original image's pixels.
        metric: name of the metric that decides the best checkpoint; higher is better.
        resolve: what the data decide when an argument leaves it open (`canvas`), by the argument's name. The
            command line records it with a run's arguments, so that predicting needs no data.
    """

    open: Callable[[Classes | None], Data]
    prepare: Callable[[Sequence[np.ndarray], Sequence[int]], Batch]
    plot_batch: Callable[[Batch, Classes], Picture]
    plot_predictions: Callable[[Batch, Predictions, Classes], Picture]
    to_json: Callable[[Batch, Predictions, Classes], list[Any]]
    metric: str
    resolve: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True)
class Fit:
    """A stage without gradients: SVMs on cached features, a box regressor, a frozen backbone's cache.

    Attributes:
        name: for the log and the checkpoint.
        fit: (model, variables, data, key) -> variables.
    """

    name: str
    fit: Callable[[nn.Module, Any, Data, Any], Any]


def _as_it_is(model: nn.Module) -> nn.Module:
    return model


@dataclass(frozen=True)
class Gradient:
    """A stage of gradient training.

    Attributes:
        train: how long and how.
        name: for the log and the checkpoint.
        model: what it trains: module -> the same module with other settings, of the same parameters.
        freeze: parts of the model that stay as they are, by their modules' names or the beginnings of them:
            `backbone`, `stem`, `stage1` (`vision_jax.training.freezing`).
    """

    train: TrainConfig
    name: str = "train"
    model: Callable[[nn.Module], nn.Module] = _as_it_is
    freeze: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """One trainable, judgeable thing, as an experiment file's function returns it.

    Attributes:
        model: (classes) -> the module, with `__call__`, `loss` and `predict`.
        task: its data, evaluators and pictures.
        stages: run in order; usually one `Gradient`.
        seed: of the initial parameters, the data's order and every draw.
        init: what training starts from: the model's random variables -> variables of the same shapes
            (`vision_jax.pretrained.starting_from`); they are taken as they are if None.
        evaluations: named ways to predict from one checkpoint: module -> the same module with other
            prediction settings. "default" is the module as it is.
    """

    model: Callable[[Classes], nn.Module]
    task: Task
    stages: tuple[Gradient | Fit, ...]
    seed: int = 0
    init: Callable[[Any], Any] | None = None
    evaluations: Mapping[str, Callable[[nn.Module], nn.Module]] = field(default_factory=dict)
