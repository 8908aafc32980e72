"""The stage `Cache`: a frozen method of the model, computed once for every example, on all devices.

    run_folder/cache/NAME/train-00000.array_record ...

Of P processes each computes every P-th shard on its devices; none waits for another before the end. A
complete shard is not computed again, so a killed stage continues after its last shard.

What a shard depends on is written beside it: the method as a program (its code, and those settings of the
model that it uses), the variables that it uses, the data's spec, the stage's options, the content of its
batches. Where the data give a fingerprint of a split and it is the same as before, only the first shard's
examples are read and compared; where they give none, or another, all are. So a changed example is noticed
always where there is no fingerprint, else as far as the fingerprint notices it
(`vision_jax.data.files.fingerprint`: by a file's size and time of change); its shard alone is computed again.

Features belong to examples as they are: training after this stage does not augment. A training example is
kept with its features, so that shuffled batches are read from the shards alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vision_jax.training.cache import CachedFeatures
from vision_jax.training.distributed import is_first, wait_for_all
from vision_jax.training.experiment import Batch, Cache, Data, Split
from vision_jax.training.features import FrozenMethod
from vision_jax.training.parallel import Device, data_parallel, gather, local, replicate, shard
from vision_jax.training.shards import ShardFile, ShardReader, ShardRecord, remove_shards
from vision_jax.training.state import Variables
from vision_jax.types import UserError

logger = logging.getLogger("vision_jax")

SPLITS: tuple[Split, ...] = ("train", "val")


def cached_features(
    stage: Cache,
    model: nn.Module,
    variables: Variables,
    data: Data,
    folder: Path,
    devices: Sequence[Device],
    key: jax.Array,
    progress: Callable[[int, int], None],
) -> CachedFeatures:
    """Opens a cache, after computing the shards that are missing, damaged or of something else.

    Args:
        stage: what to compute.
        model: with the method.
        variables: of the model.
        data: both splits, without features.
        folder: of the cache.
        devices: of all processes; each uses its own.
        key: of the method's random numbers, if it has any.
        progress: told (batches done, batches in all), where the data know how many they are.

    Raises:
        UserError: no such method, a full disk, or an example that cannot be read.
    """
    batch = next(iter(data.once("train", stage.batch_size)), None)
    if batch is None:
        raise UserError(f"stage {stage.name}: the training split is empty")
    method = FrozenMethod.of(model, variables, batch, stage.method)
    weights = method.weights(variables)
    options = f"{stage.dtype}, {stage.examples_per_shard} examples a shard, {stage.batch_size} a batch"
    identity = {
        "method": method.program,
        "weights": weights,
        "spec": data.spec.fingerprint(),
        "options": options,
    }
    compute = _Compute(stage, model, variables, local(devices), key)
    made = before = 0
    counts: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    whole: dict[Split, Any] = {split: data.once(split, stage.batch_size) for split in SPLITS}
    sized = all(hasattr(batches, "__len__") for batches in whole.values())
    total = sum(map(len, whole.values())) if sized else 0
    for split, batches in whole.items():
        source = data.fingerprint(split)
        builder = _Builder(folder, split, identity, source, compute)
        for number, (count, read) in enumerate(_parts(batches, compute.batches_per_shard)):
            if number % jax.process_count() == jax.process_index():
                builder.shard(number, read)
            before, counts[split] = before + count, number + 1
            if total:
                progress(before, total)
        made += builder.report()
    wait_for_all()
    readers: dict[Split, ShardReader] = {}
    for split, count in counts.items():
        if is_first():
            remove_shards(folder, split, count)
        shards = [ShardFile(folder, split, number) for number in range(count)]
        records = [shard.read_record() for shard in shards]
        readers[split] = ShardReader(shards, [record for record in records if record is not None])
    logger.info(
        "stage %s: %s of %s examples, %d of %d shards computed; later stages train on examples as they are, "
        "not augmented",
        *(stage.name, stage.method, " and ".join(f"{len(readers[s])} {s}" for s in SPLITS)),
        *(made, sum(counts.values())),
    )
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), variables)
    return CachedFeatures(model, method, weights, shapes, batch, readers)


class _Compute:
    """The method on this process's devices.

    Args:
        stage: what to compute.
        model, variables, key: of the method.
        devices: of this process.
    """

    def __init__(
        self, stage: Cache, model: nn.Module, variables: Variables, devices: Sequence[Device], key: jax.Array
    ) -> None:
        self.batches_per_shard = -(-stage.examples_per_shard // stage.batch_size)
        self._stage = stage
        self._devices = devices
        self._key = key
        self._host = variables
        self._variables: Any = None

        def step(variables: Variables, batch: Batch, key: jax.Array) -> Any:
            return model.apply(variables, batch, method=stage.method, rngs={"sample": key})

        self._step = data_parallel(step, devices, out_axes=0, donate_argnums=())

    def __call__(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Any]]:
        """Yields (batch, features [B, ...] as numpy), each while the devices compute the next."""
        if self._variables is None:
            self._variables = replicate(self._host, self._devices)
        ahead = None
        for batch in batches:
            size = len(batch.example_valid)
            padding = -size % len(self._devices)
            padded = jax.tree.map(
                lambda x, n=padding: np.concatenate([x, np.repeat(x[-1:], n, axis=0)]), batch
            )
            outputs = self._step(self._variables, shard(padded, len(self._devices)), self._key)
            if ahead is not None:
                yield self._fetched(*ahead)
            ahead = batch, outputs
        if ahead is not None:
            yield self._fetched(*ahead)

    def _fetched(self, batch: Batch, outputs: Any) -> tuple[Batch, Any]:
        return batch, jax.tree.map(self._stored, gather(outputs))

    def _stored(self, x: np.ndarray) -> np.ndarray:
        """An output in the dtype of the shards.

        Raises:
            UserError: a number is beyond that dtype's range.
        """
        if not jax.numpy.issubdtype(x.dtype, np.floating):
            return x
        with np.errstate(over="ignore"):
            stored = x.astype(self._stage.dtype)
        if np.isinf(stored).any() and np.isfinite(x).all():
            raise UserError(
                f"stage {self._stage.name}: features are beyond {stored.dtype}: use dtype float32"
            )
        return stored


class _Builder:
    """Makes the shards of one split that cannot be trusted.

    Args:
        folder: of the cache.
        split: of the data.
        key: digests of what all shards depend on.
        source: the split's fingerprint, where the data give one.
        compute: batches -> (batch, features) of each.
    """

    def __init__(
        self, folder: Path, split: Split, key: dict[str, str], source: str | None, compute: _Compute
    ) -> None:
        self._folder = folder
        self._split: Split = split
        self._key = key
        self._source = source
        self._compute = compute
        self._made = 0
        self._reasons: Counter[str] = Counter()

    def shard(self, number: int, read: Callable[[], Iterable[Batch]]) -> None:
        """Trusts a shard, or makes it.

        Args:
            number: of the shard.
            read: reads its batches.
        """
        file = ShardFile(self._folder, self._split, number)
        record = self._usable(file)
        trusted = self._source is not None and record is not None and record.source == self._source
        # The first shard is always compared: a change of all examples, as of their size, shows there.
        if record is not None and not (trusted and number):
            digest = hashlib.sha256()
            for batch in read():
                _add(digest, batch)
            if digest.hexdigest() != record.inputs:
                self._reasons["other examples"] += 1
                record = None
            elif record.source != self._source:
                file.write_record(replace(record, source=self._source))
        if record is None:
            self._make(file, read())

    def report(self) -> int:
        """Tells why shards of before were not used; the number of shards made."""
        for reason, count in self._reasons.items():
            logger.warning("%s: %d %s shards of %s are made anew", self._folder, count, self._split, reason)
        return self._made

    def _usable(self, file: ShardFile) -> ShardRecord | None:
        """The record of a shard that is as it was written and depends on the same things; None otherwise."""
        try:
            record = file.read_record()
        except ValueError as error:
            logger.warning("%s is damaged (%s): its shard is made anew", file.record_path, error)
            return None
        if record is None:
            return None
        other = [name for name, value in self._key.items() if record.key.get(name) != value]
        if other:
            self._reasons[f"other {', '.join(other)}"] += 1
            return None
        fault = file.fault(record)
        if fault is not None:
            logger.warning("%s is damaged (%s): it is made anew", file.path, fault)
            return None
        return record

    def _make(self, file: ShardFile, batches: Iterable[Batch]) -> None:
        """Computes and writes a shard, then its record."""
        inputs, groups = hashlib.sha256(), []

        def examples() -> Iterator[dict[str, np.ndarray]]:
            for batch, features in self._compute(batches):
                _add(inputs, batch)
                valid = np.flatnonzero(batch.example_valid)
                rows = {f"features.{i}": x for i, x in enumerate(jax.tree.leaves(features))}
                if self._split == "train":
                    rows |= {f"batch.{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(batch))}
                shapes = json.dumps({name: x.shape[1:] for name, x in sorted(rows.items())})
                groups.append((hashlib.sha256(shapes.encode()).hexdigest()[:8], len(valid)))
                for index in valid:
                    yield {name: x[index] for name, x in rows.items()}

        digest = file.write(examples())
        file.write_record(ShardRecord(self._key, inputs.hexdigest(), self._source, groups, digest))
        self._made += 1


def _parts(batches: Iterable[Batch], size: int) -> Iterator[tuple[int, Callable[[], Iterable[Batch]]]]:
    """Yields (number of batches, a function that reads them) for each `size` batches in turn.

    Args:
        batches: in order. Where they have a length and a method `part(start, stop)`, only what is asked for
            is read.
        size: at least 1.
    """
    part = getattr(batches, "part", None)
    if part is not None:
        count = len(batches)  # type: ignore[arg-type]
        for start in range(0, count, size):
            stop = min(start + size, count)
            yield stop - start, lambda start=start, stop=stop: part(start, stop)
        return
    iterator = iter(batches)
    while chunk := list(islice(iterator, size)):
        yield len(chunk), lambda chunk=chunk: chunk


def _add(digest: Any, batch: Batch) -> None:
    """Adds a batch's arrays to a sha256, with their names, shapes and dtypes."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
