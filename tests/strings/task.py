"""The task of strings: opens them, reads what `predict` is given, evaluates and plots."""

from functools import partial
from pathlib import Path

import numpy as np

from tests.strings.data import Read, Stack, StringExample, StringSource, Unchanged, lengths
from tests.strings.spec import StringSpec
from vision_jax.data.pipeline.buckets import Buckets
from vision_jax.data.sources import Subset
from vision_jax.evaluation.per_image.file import PerImage
from vision_jax.evaluation.per_image.kinds import Ratios
from vision_jax.tasks.loading import Loading
from vision_jax.training.experiment import Data, Task
from vision_jax.types import Report, UserError


class NLL:
    """Nats a token, by the losses of each example."""

    def __init__(self):
        self.ids, self.nats, self.tokens = [], [], []

    def add_losses(self, batch, losses):
        keep = batch.example_valid
        self.ids += batch.id[keep].tolist()
        self.nats += losses["nll"].total[keep].astype(np.float64).tolist()
        self.tokens += losses["nll"].weight[keep].astype(np.float64).tolist()

    def report(self):
        kept = PerImage(
            np.array(self.ids), (Ratios({"nll": np.array(self.nats)}, {"nll": np.array(self.tokens)}),)
        )
        nll = sum(self.nats) / sum(self.tokens)
        table = f"| nats a token |\n| ---: |\n| {nll:.3f} |"
        return Report({"nll": nll}, {"nll.md": table}, {"per_image.npz": kept.write})


class Exact:
    """The fraction of strings whose second half is predicted."""

    def __init__(self):
        self.right = []

    def add(self, batch, predictions):
        for b in np.flatnonzero(batch.example_valid):
            length = batch.valid[b].sum()
            right = (predictions.tokens[b, :length] == batch.tokens[b, :length]).all()
            self.right.append(bool(right and predictions.valid[b].sum() == length))

    def report(self):
        return Report({"exact": float(np.mean(self.right))})


class StringData(Data):
    """Two files of strings, opened."""

    def __init__(self, train, val, spec):
        self.sources = {"train": train, "val": val}
        self._spec = spec

    @property
    def spec(self):
        return self._spec

    def _loading(self, split):
        source = self.sources[split]
        groups = partial(Buckets(self.spec.lengths).bucket, lengths(source))
        collate = partial(Stack, self.spec.lengths)
        return Loading(source, Read(self.spec), Unchanged(), Unchanged().prepare, collate, groups)

    def train(self, batch_size, seed, workers):
        return self._loading("train").train(batch_size, seed, workers)

    def once(self, split, batch_size):
        return self._loading(split).once(batch_size)

    def evaluators(self):
        return [NLL(), Exact()]

    def overfit(self, n):
        part = Subset(self.sources["train"], n)
        return StringData(part, part, self.spec)

    def first(self, n):
        return StringData(self.sources["train"], Subset(self.sources["val"], n), self.spec)

    def summary(self):
        cut = {
            name: Buckets(self.spec.lengths).truncation(lengths(source))
            for name, source in self.sources.items()
        }
        counts = {f"{name}/strings": len(source) for name, source in self.sources.items()}
        return Report(counts | {f"{name}/truncated": each.truncated for name, each in cut.items()})


class StringTask(Task[StringSpec]):
    """Strings of a folder.

    Args:
        data: the folder.
        lengths: of the buckets; from the training strings if None.
    """

    spec_type = StringSpec
    metric = "nll"
    minimize = True

    def __init__(self, data, lengths=None):
        self.folder, self.lengths = Path(data), lengths

    def open(self, spec):
        train, val = (StringSource(self.folder / f"{name}.txt") for name in ("train", "val"))
        if spec is None:
            chosen = self.lengths or Buckets.derived(lengths(train), 2).lengths
            spec = StringSpec(tuple(sorted(set("".join(train.lines)))), chosen)
        return StringData(train, val, spec)

    def find(self, paths):
        return [(path, str(path)) for path in paths]

    def read(self, file):
        if not file.exists():
            raise UserError(f"{file}: there is no such file")
        return file.read_text().strip()

    def prepare(self, inputs, ids, spec):
        examples = []
        for id, text in zip(ids, inputs, strict=True):
            tokens = np.array(spec.tokens(text), np.int32)
            if len(tokens) > spec.lengths[-1]:
                raise UserError(f"a string of {len(tokens)} characters; the run takes {spec.lengths[-1]}")
            examples.append(StringExample(id, tokens, len(tokens)))
        batch = Stack(spec.lengths[-1:], len(examples))(examples)
        return batch

    def blank(self, ids, spec):
        return self.prepare([""] * len(ids), ids, spec)

    def plot_batch(self, batch, spec):
        """A row of gray squares a string, brighter for later characters."""
        shades = np.where(batch.valid, 55 + batch.tokens * 200 // max(1, len(spec.vocabulary) - 1), 0)
        return np.repeat(shades.repeat(8, 0).repeat(8, 1)[..., None], 3, axis=2).astype(np.uint8)

    def plot_predictions(self, batch, predictions, spec):
        return self.plot_batch(predictions, spec)

    def to_json(self, batch, predictions, spec):
        return [
            [{"text": "".join(spec.vocabulary[k] for k in predictions.tokens[b][predictions.valid[b]])}]
            for b in np.flatnonzero(batch.example_valid)
        ]
