"""Batches repeat to the bit: over runs, worker processes, threads, caches, and a stop and a resume."""

import json
from collections import Counter
from functools import partial

import numpy as np
import pytest

from vision_jax.data.formats.synthetic.digits import Digits
from vision_jax.data.formats.synthetic.scenes import SyntheticScenes
from vision_jax.data.pipeline.batching import (
    classification_batch,
    count_objects,
    detection_batch,
    segmentation_batch,
)
from vision_jax.data.pipeline.loader import canvases, evaluation_batches, train_batches
from vision_jax.data.pipeline.reading import Examples, read_classification, read_detection, read_segmentation
from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import Subset
from vision_jax.data.transforms.augment import Augment, FitCanvas, train_transform
from vision_jax.types import UserError

CANVAS = (24, 32)
TRANSFORM = train_transform(Augment(vflip=0.5, scale=(0.5, 2.0), crop=0.5, color=0.4), CANVAS)


class Generated:
    """Eleven small images, a third of them portraits; boxes and pixels depend on the index."""

    classes = ("a", "b")

    def __init__(self, length=11):
        self.length = length
        self.read = Counter()

    def __len__(self):
        return self.length

    def record(self, index):
        rng = np.random.default_rng(index)
        height, width = (48, 64) if index % 3 else (64, 48)
        corner = rng.uniform(0, 20, (index % 4, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 20, corner.shape)], 1)
        n = len(boxes)
        labels, ignore = np.arange(n, dtype=np.int32) % 2, np.zeros(n, bool)
        return DetectionRecord(100 + index, f"{index}.png", height, width, boxes, labels, ignore, np.ones(n))

    def image(self, index):
        self.read[index] += 1
        record = self.record(index)
        return np.random.default_rng(index).integers(0, 255, (record.height, record.width, 3), np.uint8)


def training(seed=0, workers=0, cache=False, source=None, batch_size=4, **options):
    source = Generated() if source is None else source
    return train_batches(
        Examples(source, read_detection, TRANSFORM.prepare, cache),
        TRANSFORM,
        partial(detection_batch, canvas=CANVAS, max_objects=count_objects(source), batch_size=batch_size),
        batch_size,
        seed,
        workers,
        canvases(source, CANVAS),
        **options,
    )


def take(iterator, number):
    batches = [next(iterator) for _ in range(number)]
    iterator.close()
    return batches


def same(one, two):
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in one.__dataclass_fields__)


@pytest.fixture(scope="module")
def reference():
    return take(training(), 12)


@pytest.mark.parametrize(
    "options", [{}, {"threads": 0}, {"threads": 5, "ahead": 9}, {"cache": True}], ids=str
)
def test_one_seed_gives_the_same_bits(reference, options):
    assert all(map(same, take(training(**options), 12), reference))


def test_another_seed_gives_another_order(reference):
    orders = [[batch.id.tolist() for batch in take(training(seed), 12)] for seed in (0, 1)]
    assert orders[0] == [batch.id.tolist() for batch in reference]
    assert orders[0] != orders[1]
    # Seeds 0 and 1 must not be the same order, one epoch apart.
    assert orders[0][3:9] != orders[1][:6]


@pytest.mark.slow
def test_worker_processes_change_nothing(reference):
    batches = training(workers=2)
    batches.set_state({"next": 2, "seed": 0, "batch_size": 4, "examples": 11})
    ours = take(batches, 5)
    assert all(map(same, ours, reference[2:7]))
    assert type(ours[0].image) is np.ndarray


@pytest.mark.parametrize("at", [0, 1, 7])
def test_a_restored_position_gives_bit_identical_batches(reference, at):
    first = training()
    take(first, at)
    state = json.loads(json.dumps(first.get_state()))
    assert state["next"] == at
    resumed = training()
    resumed.set_state(state)
    assert all(map(same, take(resumed, 12 - at), reference[at:]))
    # In the same process too, and backwards.
    first.set_state(state)
    assert all(map(same, take(first, 3), reference[at : at + 3]))


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 2}, {"source": Generated(10)}])
def test_a_position_in_other_data_is_refused(change):
    state = training().get_state()
    with pytest.raises(UserError, match="resume with the run's own data"):
        training(**change).set_state(state)


def test_the_first_batches_are_the_first_pass():
    source = Generated(12)
    collate = partial(detection_batch, canvas=(32, 32), max_objects=3, batch_size=4)
    transform = train_transform(Augment(), (32, 32))
    iterator = train_batches(Examples(source, read_detection), transform, collate, 4)
    first = [id for batch in take(iterator, 3) for id in batch.id.tolist()]
    assert sorted(first) == list(range(100, 112)) != first


def test_every_image_is_seen_equally_often_and_passes_differ():
    iterator = training()
    ids = [batch.id.tolist() for batch in take(iterator, 44)]
    counts = Counter(id for batch in ids for id in batch)
    assert set(counts.values()) == {16}
    portrait = {100, 103, 106, 109}
    assert all(set(batch) <= portrait or not set(batch) & portrait for batch in ids)
    passes = [tuple(batch) for batch in ids if set(batch) <= portrait]
    assert all(set(one) == portrait for one in passes)
    assert len(set(passes)) > 8


def test_an_image_is_varied_anew_each_time(reference):
    first = [batch.image[batch.id.tolist().index(100)] for batch in reference if 100 in batch.id]
    assert len(first) >= 3
    assert len({image.tobytes() for image in first}) == len(first)


def test_a_group_smaller_than_a_batch_still_fills_it():
    source = Generated(3)
    iterator = training(source=source)
    batches = take(iterator, 6)
    shapes = Counter(batch.image.shape[1:3] for batch in batches)
    assert shapes == {(24, 32): 4, (32, 24): 2}
    assert all(batch.example_valid.all() for batch in batches)
    assert all((batch.id == 100).all() for batch in batches if batch.image.shape[1] == 32)


def test_no_images_is_a_clear_error():
    with pytest.raises(UserError, match="no image to train on"):
        training(source=Generated(0))


def test_batches_of_one_are_the_examples_of_larger_batches():
    transform = train_transform(Augment(), (32, 32))

    def ids(batch_size, count):
        collate = partial(detection_batch, canvas=(32, 32), max_objects=3, batch_size=batch_size)
        iterator = train_batches(Examples(Generated(12), read_detection), transform, collate, batch_size)
        return [id for batch in take(iterator, count) for id in batch.id.tolist()]

    assert ids(1, 24) == ids(2, 12)


def test_errors_of_the_loader_reach_the_caller():
    source = Generated()
    examples = Examples(source, read_detection, TRANSFORM.prepare)
    collate = partial(detection_batch, canvas=CANVAS, max_objects=1, batch_size=4)
    iterator = train_batches(examples, TRANSFORM, collate, 4, groups=canvases(source, CANVAS))
    with pytest.raises(UserError, match="raise max_objects"):
        take(iterator, 4)
    iterator.close()


def test_evaluation_goes_over_all_once_in_order_and_fills_the_last_batch():
    source = Generated()
    batches = evaluation_batches(
        Examples(source, read_detection, FitCanvas(CANVAS)),
        partial(detection_batch, canvas=CANVAS, max_objects=3, batch_size=4),
        4,
        canvases(source, CANVAS),
    )
    for _ in range(2):
        seen = list(batches)
        assert len(seen) == len(batches) == 3
        assert [batch.id.tolist() for batch in seen] == [
            [100, 103, 106, 109],
            [101, 102, 104, 105],
            [107, 108, 110, -1],
        ]
        assert [batch.example_valid.sum() for batch in seen] == [4, 4, 3]
        assert [batch.image.shape[1:3] for batch in seen] == [(32, 24), (24, 32), (24, 32)]
    source.read.clear()
    (second,) = batches.part(1, 2)
    assert second.id.tolist() == [101, 102, 104, 105]
    assert sum(source.read.values()) == 4
    assert list(batches.part(2, 2)) == []
    plain = np.round(source.record(1).boxes / 2, 4)
    np.testing.assert_allclose(seen[1].boxes[0, :1], plain, atol=1e-3)
    empty = evaluation_batches(Examples(Generated(0), read_detection), partial(detection_batch), 4)
    assert list(empty) == []


def test_kept_examples_are_read_once_and_cannot_be_written():
    source = Generated()
    examples = Examples(Subset(source, 5), read_detection, FitCanvas(CANVAS), cache=True)
    assert len(examples) == 5
    for _ in range(3):
        one = examples[2]
    assert source.read == {2: 1}
    with pytest.raises(ValueError, match="read-only"):
        one.image.pixels[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        one.objects.boxes[0] = 0
    fresh = Examples(source, read_detection, FitCanvas(CANVAS))[2]
    np.testing.assert_array_equal(one.image.pixels, fresh.image.pixels)


def test_classification_and_segmentation_go_the_same_way():
    digits = Digits("train")
    transform = train_transform(Augment(hflip=0.0, scale=(0.8, 1.0)), (12, 12))
    collate = partial(classification_batch, canvas=(12, 12), batch_size=8)
    iterator = train_batches(Examples(digits, read_classification, transform.prepare), transform, collate, 8)
    (batch,) = take(iterator, 1)
    assert batch.image.shape == (8, 12, 12, 3)
    assert batch.labels.tolist() == [digits.record(int(id)).label for id in batch.id]
    scenes = SyntheticScenes(5).segmentation()
    whole = evaluation_batches(
        Examples(scenes, read_segmentation, FitCanvas((64, 64))),
        partial(segmentation_batch, canvas=(64, 64), batch_size=2),
        2,
    )
    maps = np.concatenate([batch.labels[batch.example_valid] for batch in whole])
    np.testing.assert_array_equal(maps[3], scenes.labels(3)[2::4, 2::4])


def test_square_canvases_need_no_records_and_counts_may_be_known():
    class Mute(Generated):
        max_objects = 8

        def record(self, index):
            raise AssertionError("asked for a record")

    assert canvases(Subset(Mute(), 4), (32, 32)) == [(32, 32)] * 4
    assert count_objects(Mute()) == 8


@pytest.mark.parametrize(("count", "workers"), [(3, 0), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_shards_are_the_batches_of_one_reader_and_read_nothing_else(count, workers):
    whole = take(training(batch_size=6), 7)
    sources = [Generated() for _ in range(count)]
    shards = [
        training(batch_size=6, source=source, workers=workers).shard(i, count)
        for i, source in enumerate(sources)
    ]
    shards[1].set_state(training(batch_size=6).get_state())
    for batch in whole:
        for i, shard in enumerate(shards):
            part = next(shard)
            for name in ("image", "boxes", "labels", "id", "example_valid"):
                np.testing.assert_array_equal(getattr(part, name), getattr(batch, name)[i::count])
    assert shards[0].get_state() == {"next": 7, "seed": 0, "batch_size": 6, "examples": 11}
    for shard, source in zip(shards, sources, strict=True):
        shard.close()
        # Read ahead are a few batches of two images, never the third batch's six.
        assert workers or sum(source.read.values()) <= 2 * (7 + 6)
    with pytest.raises(ValueError, match="do not divide into 4"):
        training(batch_size=6).shard(0, 4)
