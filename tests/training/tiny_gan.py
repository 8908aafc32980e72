"""A tiny GAN (Goodfellow et al. 2014) on eight Gaussians in a circle: two players, a batch norm in each."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from tests.training.tiny_training import Stream
from vision_jax.training import Alternate, Data, Experiment, Player, Task, TrainConfig, fit
from vision_jax.types import JsonSpec, Mean, Report

LATENT, SPREAD = 4, 0.1
CENTERS = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)


@struct.dataclass
class Points:
    """Points [B, 2] of the plane, their ids [B] and which are no padding examples [B]."""

    point: np.ndarray
    id: np.ndarray
    example_valid: np.ndarray


class MLP(nn.Module):
    """Two hidden layers, the second with a batch norm."""

    out: int
    axis: str | None

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.leaky_relu(nn.Dense(32, name="hidden1")(x), 0.2)
        x = nn.Dense(32, use_bias=False, name="hidden2")(x)
        norm = nn.BatchNorm(momentum=0.9, axis_name=self.axis, name="norm")
        x = nn.leaky_relu(norm(x, use_running_average=not train), 0.2)
        return nn.Dense(self.out, name="out")(x)


class TinyGAN(nn.Module):
    """Its objectives are the discriminator's loss and the generator's, which does not saturate."""

    axis: str | None = "data"

    def setup(self):
        self.generator = MLP(2, self.axis)
        self.discriminator = MLP(1, self.axis)

    def sample(self, batch, train=False):
        key = self.make_rng("sample")
        latent = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (LATENT,)))(batch.id)
        return self.generator(latent, train)

    def realism(self, points, train):
        return self.discriminator(points, train)[:, 0]

    def discrimination(self, batch, train=True):
        weight = jnp.float32(batch.example_valid)
        real, false = self.realism(batch.point, train), self.realism(self.sample(batch, train), train)
        return {
            "real": Mean(weight * nn.softplus(-real), weight),
            "false": Mean(weight * nn.softplus(false), weight),
        }

    def generation(self, batch, train=True):
        realism = self.realism(self.sample(batch, train), train)
        return {"fooled": Mean.over(nn.softplus(-realism), where=batch.example_valid)}

    def loss(self, batch, train=True):
        return self.discrimination(batch, train) | self.generation(batch, train)

    def predict(self, batch):
        return self.sample(batch)


def make_points(ids):
    noise = np.stack([np.random.default_rng(int(i)).normal(0, SPREAD, 2) for i in ids])
    ids = np.asarray(ids, np.int32)
    return Points(np.float32(CENTERS[ids % 8] + noise), ids, np.ones(len(ids), bool))


class PointStream(Stream):
    """The training points, shuffled."""

    def __next__(self):
        return make_points(super().__next__().id)


class Distances:
    """How far sampled points are from the next center, and how many centers have a point nearby."""

    def __init__(self):
        self.points = []

    def add(self, batch, predictions):
        self.points.append(predictions[batch.example_valid])

    def report(self):
        distances = np.linalg.norm(np.concatenate(self.points)[:, None] - CENTERS, axis=2)
        near = (distances < 4 * SPREAD).any(0)
        return Report({"distance": float(distances.min(1).mean()), "centers": float(near.sum())})


@dataclass(frozen=True)
class PlaneSpec(JsonSpec):
    """What the data decide: nothing but the number of Gaussians."""

    centers: int = len(CENTERS)

    def describe(self):
        return f"{self.centers} Gaussians"


class PlaneData(Data):
    """256 training points and 64 for evaluation."""

    spec = PlaneSpec()

    def __init__(self, before_batch=None):
        self.before_batch = before_batch

    def train(self, batch_size, seed, workers):
        return PointStream(np.arange(256), batch_size, seed, before_batch=self.before_batch)

    def once(self, split, batch_size):
        return [make_points(np.arange(i, i + batch_size)) for i in range(1000, 1064, batch_size)]

    def evaluators(self):
        return [Distances()]

    def overfit(self, n):
        return self

    def first(self, n):
        return self

    def summary(self):
        return Report()


class PlaneTask(Task):
    """Samples without input; nothing is plotted."""

    spec_type = PlaneSpec
    metric = "distance"
    minimize = True

    def __init__(self, **options):
        self.options = options

    def open(self, spec):
        return PlaneData(**self.options)

    def blank(self, ids, spec):
        return make_points(ids)

    def plot_batch(self, batch, spec):
        return np.zeros((2, 2, 3), np.uint8)

    def plot_predictions(self, batch, predictions, spec):
        return self.plot_batch(batch, spec)

    def to_json(self, batch, predictions, spec):
        return [[{"point": point}] for point in predictions.tolist()]


ADAM = TrainConfig(
    batch_size=16, optimizer="adam", learning_rate=2e-3, betas=(0.5, 0.9), weight_decay=0.0, clip_norm=0.0,
    warmup_steps=0, schedule="constant",
)  # fmt: skip


def alternate(k=1, rounds=6, train=ADAM, ema=0.0):
    """A stage: k steps of the discriminator to one of the generator, of which an average is kept."""
    discriminator = replace(train, steps=k * rounds)
    generator = replace(train, steps=rounds, ema=ema, log_every=max(1, train.log_every // 2))
    return Alternate(
        (
            Player("discriminator", "discrimination", ("discriminator",), discriminator),
            Player("generator", "generation", ("generator",), generator),
        ),
        steps=(k, 1),
    )


def experiment(stage, seed=0, **options):
    task = PlaneTask(**options)
    return Experiment(model=lambda spec: TinyGAN(), task=task, stages=(stage,), seed=seed)


def train(run_folder, stage, resume=False, kill_at=None):
    """One process's training; it dies as soon as the checkpoint of the step `kill_at` is complete."""

    def die():
        if kill_at is not None and (Path(run_folder) / "checkpoints" / str(kill_at) / "record.json").exists():
            os.kill(os.getpid(), signal.SIGKILL)

    fit(experiment(stage, before_batch=die), run_folder, resume=resume, devices=1)
