"""A tiny experiment with a cache: a backbone, frozen, and a head that trains on its features."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.training.tiny_training import CLASSES, DEFAULTS, TinyTask, make_batch
from vision_jax.training.experiment import Cache, Experiment, Gradient
from vision_jax.types import Classification, Mean

CACHE = Cache("features", "pool", batch_size=4, examples_per_shard=8)
HEAD = dataclasses.replace(
    DEFAULTS, steps=12, learning_rate=0.1, warmup_steps=0, eval_every=6, checkpoint_every=4, log_every=3
)
BEFORE = dataclasses.replace(HEAD, steps=2, eval_every=0)


class Frozen(nn.Module):
    """A convolution with a batch norm, averaged over the image, and a linear layer.

    Attributes:
        scale: of the features.
        sharpness: of predictions.
        asks: whether the loss asks for the features of its batch.
    """

    scale: float = 1.0
    sharpness: float = 1.0
    asks: bool = True

    def setup(self):
        self.conv = nn.Conv(8, (3, 3))
        self.norm = nn.BatchNorm(momentum=0.9, axis_name="data")
        self.head = nn.Dense(len(CLASSES))

    def features(self, batch, train=False):
        x = self.conv(jnp.float32(batch.image) / 255 - 0.5)
        x = nn.relu(self.norm(x, use_running_average=not train))
        return {
            "mean": self.scale * x.mean((1, 2)),
            "corner": x[:, 0, 0],
            "rank": jnp.argsort(x[:, 0, 0]),
        }

    def brightness(self, batch):
        return {"of_all": jnp.float32(batch.image).mean()}

    def __call__(self, batch, train=False):
        features = self.features(batch if self.asks else batch.replace(id=batch.id), train)
        both = jnp.concatenate([features["mean"], features["corner"]], -1)
        return {"logits": self.head(both)}

    def loss(self, batch, train=True):
        counted = batch.example_valid & (batch.labels >= 0)
        labels = jnp.maximum(batch.labels, 0)
        logits = self(batch, train)["logits"]
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return {"entropy": Mean.over(entropy, where=counted)}

    def predict(self, batch):
        logits = self.sharpness * self(batch)["logits"]
        return Classification(logits.argmax(-1).astype(jnp.int32), nn.softmax(logits))


def cached_experiment(stages=None, model=None, changed=(), fingerprint=None, delay=0.0, seed=0, **options):
    """The backbone and the head together for 2 steps, the cache, the head alone.

    `changed`: ids of examples with another pixel. `fingerprint`: what the data say of each split.
    `delay`: seconds of reading a batch in the cache.
    """

    def changed_data(data):
        def once(split, batch_size):
            ids = {"train": np.arange(24), "val": np.arange(100, 114)}[split]
            for start in range(0, len(ids), batch_size):
                time.sleep(delay)
                part = ids[start : start + batch_size]
                batch = make_batch([*part, *[part[-1]] * (batch_size - len(part))])
                image = batch.image.copy()
                image[np.isin(batch.id, changed), 0, 0] ^= 1
                yield batch.replace(image=image, example_valid=np.arange(batch_size) < len(part))

        class Once:
            def __init__(self, *which):
                self.which = which

            def __iter__(self):
                return once(*self.which)

            def __len__(self):
                return -(-{"train": 24, "val": 14}[self.which[0]] // self.which[1])

        data.once, data.fingerprint = Once, lambda split: fingerprint
        return data

    default = (Gradient(BEFORE, "before"), CACHE, Gradient(HEAD, "head", freeze=("conv", "norm")))
    return Experiment(
        model=lambda spec: model or Frozen(),
        task=TinyTask(changed=changed_data),
        stages=stages or default,
        seed=seed,
        **options,
    )


def train_cached(run_folder, resume=False, kill_after=None, one_of=None, **options):
    """One process's training. `kill_after`: shards after which it dies."""
    from vision_jax.training import fit
    from vision_jax.training.distributed import joined

    if one_of is not None:
        jax.config.update("jax_num_cpu_devices", 2)
        log = open(f"{run_folder}.{one_of[2]}.log", "ab")  # noqa: SIM115
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if kill_after is not None:
        _kill_after(kill_after)
    with joined(*(one_of or ())):
        fit(cached_experiment(**options), run_folder, resume=resume, devices=2 if one_of else 1)


def _kill_after(shards):
    """Ends this process without warning when it has written so many shards, and a part of the next."""
    from vision_jax.training import shards as module

    write, written = module.ShardFile.write, []

    def dying(self, examples):
        def some():
            for number, example in enumerate(examples):
                if len(written) == shards and number == 5:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield example

        digest = write(self, some())
        written.append(self)
        return digest

    module.ShardFile.write = dying
