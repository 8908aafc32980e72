"""A tiny experiment with all that a trainer can get wrong: batch norm, sampling by id, uneven weights."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vision_jax.training.experiment import Data, Experiment, Fit, Gradient, Task, TrainConfig
from vision_jax.types import Classification, ClassificationBatch, ClassificationSpec, Mean, Report, UserError

CLASSES = ("dark", "light", "red")


class TinyNet(nn.Module):
    """Convolution, batch norm, convolution, group norm, a linear layer; half of the examples count.

    One group: norms of a few channels each take an image's brightness away, which tells the classes apart.

    Attributes:
        num_classes: K.
        sharpness: a prediction setting, for named evaluations.
        axis: over which batch norm averages its moments; None for those of each device.
        frozen: batch norm by its running averages, in training too.
    """

    num_classes: int = 3
    sharpness: float = 1.0
    axis: str | None = "data"
    frozen: bool = False

    @nn.compact
    def __call__(self, batch, train=False):
        x = jnp.float32(batch.image) / 255 - 0.5
        x = nn.Conv(8, (3, 3), use_bias=False, name="conv1")(x)
        norm = nn.BatchNorm(momentum=0.9, axis_name=self.axis, name="norm1")
        x = norm(x, use_running_average=self.frozen or not train)
        x = nn.Conv(8, (3, 3), name="conv2")(nn.relu(x))
        x = nn.relu(nn.GroupNorm(1, name="norm2")(x)).mean((1, 2))
        return {"logits": nn.Dense(self.num_classes, name="head")(x).astype(jnp.float32)}

    def loss(self, batch, train=True):
        logits = self(batch, train)["logits"]
        counted = batch.example_valid & (batch.labels >= 0)
        if train:
            key = self.make_rng("sample")
            uniform = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(batch.id)
            counted &= uniform < 0.7
        labels = jnp.maximum(batch.labels, 0)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return {
            "entropy": Mean.over(entropy, where=counted),
            "size": Mean(0.01 * jnp.sum(jnp.where(counted[:, None], logits**2, 0)), 3.0 * counted.sum()),
        }

    def predict(self, batch):
        logits = self.sharpness * self(batch)["logits"]
        return Classification(logits.argmax(-1).astype(jnp.int32), nn.softmax(logits))


def make_batch(ids, size=8):
    """Images that depend on their id alone: 0 is dark, 1 is light, 2 is red; every fifth is unlabeled."""
    ids = np.asarray(ids, np.int32)
    labels = ids % 3
    images = []
    for i, label in zip(ids, labels, strict=True):
        noise = np.random.default_rng(int(i)).integers(0, 120, (size, size, 3))
        image = noise + np.where(label == 1, 130, 0)
        images.append(np.where([True, False, False], 250, image) if label == 2 else image)
    labels = np.where(ids % 5 == 4, -1, labels).astype(np.int32)
    return ClassificationBatch(np.stack(images).astype(np.uint8), labels, ids, np.ones(len(ids), bool))


class Stream:
    """An endless, shuffled iterator whose position can be saved."""

    def __init__(self, ids, batch_size, seed, delay=0.0, bad_step=None, state_as_bytes=False,
                 before_batch=None):  # fmt: skip
        self.before_batch = before_batch
        self.ids, self.batch_size, self.seed, self.delay = np.asarray(ids), batch_size, seed, delay
        self.bad_step, self.state_as_bytes = bad_step, state_as_bytes
        self.position = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.before_batch is not None:
            self.before_batch()
        time.sleep(self.delay)
        chosen = []
        for _ in range(self.batch_size):
            epoch, position = divmod(self.position, len(self.ids))
            chosen.append(np.random.default_rng([self.seed, epoch]).permutation(self.ids)[position])
            self.position += 1
        batch = make_batch(chosen)
        if self.bad_step is not None and self.position == self.bad_step * self.batch_size:
            batch = batch.replace(image=np.where(batch.image >= 0, np.nan, 0).astype(np.float32))
        return batch

    def get_state(self):
        return str(self.position).encode() if self.state_as_bytes else {"position": np.int64(self.position)}

    def set_state(self, state):
        self.position = int(state if isinstance(state, bytes) else state["position"])


class Accuracy:
    """The fraction of labeled images whose class is found."""

    def __init__(self):
        self.right = []

    def add(self, batch, predictions):
        assert isinstance(predictions.labels, np.ndarray)
        keep = batch.example_valid & (batch.labels >= 0)
        self.right += list(predictions.labels[keep] == batch.labels[keep])

    def report(self):
        accuracy = float(np.mean(self.right))
        return Report(
            {"accuracy": accuracy, "undefined": float("nan")},
            {"accuracy.md": f"| accuracy |\n| --- |\n| {accuracy} |"},
            {"accuracy.txt": lambda path: path.write_text(f"{accuracy}\n") and None},
        )


class TinyData(Data):
    """24 training images, 14 for evaluation; the last evaluation batch is padded."""

    def __init__(self, delay=0.0, evaluation_delay=0.0, bad_step=None, state_as_bytes=False, ids=None,
                 before_batch=None, count=None):  # fmt: skip
        self.options = {"delay": delay, "evaluation_delay": evaluation_delay, "ids": ids}
        self.stream = (delay, bad_step, state_as_bytes, before_batch)
        self.evaluation_delay = evaluation_delay
        self.ids = {"train": np.arange(24), "val": np.arange(100, 114)}
        if ids is not None:
            self.ids = {"train": ids, "val": ids}
        self.ids["val"] = self.ids["val"][:count]

    @property
    def spec(self):
        return ClassificationSpec(CLASSES, (8, 8))

    def train(self, batch_size, seed, workers):
        return Stream(self.ids["train"], batch_size, seed, *self.stream)

    def once(self, split, batch_size):
        ids = self.ids[split]
        for start in range(0, len(ids), batch_size):
            time.sleep(self.evaluation_delay)
            part = ids[start : start + batch_size]
            padding = batch_size - len(part)
            batch = make_batch([*part, *[part[-1]] * padding])
            yield batch.replace(example_valid=np.arange(batch_size) < len(part))

    def evaluators(self):
        return [Accuracy()]

    def overfit(self, n):
        return TinyData(**self.options | {"ids": np.arange(n)})

    def first(self, n):
        return TinyData(**self.options, count=n)

    def summary(self):
        return Report()


class TinyTask(Task):
    """Its data take the options of `TinyData`, and are changed by a function where one is given."""

    spec_type = ClassificationSpec
    metric = "accuracy"

    def __init__(self, curves=None, changed=None, **options):
        self.curves, self.changed, self.options = curves, changed, options

    def open(self, spec):
        if spec is not None and spec.classes != CLASSES:
            raise UserError(f"classes {spec.classes} are not {CLASSES}")
        data = TinyData(**self.options)
        return self.changed(data) if self.changed else data

    def prepare(self, inputs, ids, spec):
        return make_batch(ids).replace(image=np.stack(inputs))

    def plot_batch(self, batch, spec):
        return np.concatenate(list(np.asarray(batch.image, np.uint8)), axis=1)

    def plot_predictions(self, batch, predictions, spec):
        return self.plot_batch(batch, spec)

    def to_json(self, batch, predictions, spec):
        return [[spec.classes[k]] for k in predictions.labels]

    def plot_curves(self, rows):
        return self.curves(rows) if self.curves else None


DEFAULTS = TrainConfig(
    steps=24,
    batch_size=8,
    learning_rate=0.05,
    warmup_steps=4,
    eval_every=9,
    checkpoint_every=5,
    log_every=4,
)


def experiment(train=DEFAULTS, seed=0, stages=None, evaluations=None, **options):
    return Experiment(
        model=lambda spec: TinyNet(len(spec.classes)),
        task=TinyTask(**options),
        stages=stages or (Gradient(train),),
        seed=seed,
        evaluations=evaluations or {},
    )


def train(
    run_folder,
    train=DEFAULTS,
    resume=False,
    largest_file=None,
    one_of=None,
    kill_at=None,
    fit_seconds=None,
    **options,
):
    """One process's training, for tests that kill it or take its disk away.

    It exits with 2 on a `UserError`, as the command does. `fit_seconds`: of a stage without gradients before.
    `one_of` is (address, processes, process), two devices in each; `kill_at`: the checkpoint it dies after.
    """
    from vision_jax.training import fit
    from vision_jax.training.distributed import joined

    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    if one_of is not None:
        jax.config.update("jax_num_cpu_devices", 2)
        rank = one_of[2]
        log = Path(run_folder).with_suffix(f".{rank}.log").open("ab")
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if fit_seconds is not None:
        options["stages"] = (Fit("sleep", partial(sleep, fit_seconds)), Gradient(train))
    if kill_at is not None:
        options["before_batch"] = lambda: _die_after(Path(run_folder) / "checkpoints" / str(kill_at))
    try:
        with joined(*(one_of or ())):
            fit(experiment(train, **options), run_folder, resume=resume, devices=2 if one_of else 1)
    except UserError as error:
        Path(run_folder).with_suffix(".error").write_text(str(error))
        sys.exit(2)


def sleep(seconds, model, variables, data, key, progress):
    """A stage without gradients that changes nothing."""
    time.sleep(seconds)
    return variables


def _die_after(checkpoint):
    if (checkpoint / "record.json").exists():
        os.kill(os.getpid(), signal.SIGKILL)
