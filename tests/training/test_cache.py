"""Cached features: equal however often the work was interrupted, new where they depend on something new."""

import dataclasses
import json
import logging
import signal

import jax
import numpy as np
import pytest

from tests.training.cached import BEFORE, CACHE, HEAD, Frozen, cached_experiment, train_cached
from tests.training.runs import assert_same_run
from tests.training.test_distributed import finish, start
from tests.training.tiny_training import make_batch
from vision_jax.training import Evaluation, Fit, Gradient, WithFeatures, fit, load_variables
from vision_jax.training.cache import FeatureData
from vision_jax.training.cache_building import cached_features
from vision_jax.training.feature_batches import FeatureBatches, turn
from vision_jax.training.features import FrozenMethod, apply_model
from vision_jax.training.shards import ShardFile, ShardReader, ShardRecord
from vision_jax.types import UserError

MODEL = Frozen()


@pytest.fixture(scope="module")
def variables():
    keys = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    return jax.device_get(dict(jax.jit(lambda b: MODEL.init(keys, b, method="loss"))(make_batch(range(2)))))


@pytest.fixture
def opened(tmp_path, variables):
    """Opens a cache in one folder: (options) -> the cache, its data with features."""

    def opened(
        model=MODEL, variables=variables, stage=CACHE, devices=1, folder=tmp_path / "cache", **options
    ):
        data = cached_experiment(**options).task.open(None)
        devices = jax.local_devices()[:devices]
        cache = cached_features(
            stage, model, variables, data, folder, devices, jax.random.key(0), lambda done, total: None
        )
        return cache, FeatureData(data, cache)

    opened.folder = tmp_path / "cache"
    return opened


def stamps(folder):
    """Of each file, what changes when it is written again."""
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.iterdir())}


def contents(folder):
    """Of each file, its bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def written(before, folder):
    """Shards that are new since `before`."""
    after = stamps(folder)
    return sorted(
        name for name in after if name.endswith(".array_record") and before.get(name) != after[name]
    )


def means(cache):
    """The features of all training examples."""
    return cache.features("train", range(24), 24)["mean"]


def all_shards(folder):
    return sorted(path.name for path in folder.glob("*.array_record"))


def test_features_are_those_of_the_method_for_every_example_once(opened, variables):
    _, data = opened()
    for split, first, count in (("train", 0, 24), ("val", 100, 14)):
        ids = []
        for batch in data.once(split, 5):
            assert isinstance(batch, WithFeatures)
            plain = batch.batch
            expected = MODEL.apply(variables, plain, method="features")
            valid = plain.example_valid
            for name, features in batch.features.items():
                assert features.dtype == expected[name].dtype
                assert not features[~valid].any()
                np.testing.assert_allclose(features[valid], expected[name][valid], rtol=1e-5, atol=1e-6)
            ids += plain.id[valid].tolist()
        assert ids == list(range(first, first + count))
    assert len(list(data.once("val", 5))) == 3


def test_training_batches_hold_examples_as_they_are_beside_their_features(opened, variables):
    _, data = opened()
    batches = data.train(6, 3, 0)
    ids = []
    for _ in range(4):
        batch = next(batches)
        plain = make_batch(batch.batch.id)
        jax.tree.map(np.testing.assert_array_equal, batch.batch, plain)
        expected = MODEL.apply(variables, plain, method="features")
        np.testing.assert_allclose(batch.features["mean"], expected["mean"], rtol=1e-5, atol=1e-6)
        ids += batch.batch.id.tolist()
    assert sorted(ids) == list(range(24))
    assert ids != sorted(ids)
    again = data.train(6, 3, 0)
    again.set_state(json.loads(json.dumps({**batches.get_state(), "next": 2})))
    np.testing.assert_array_equal(next(again).batch.id, ids[12:18])
    whole, parts = data.train(6, 3, 0), [data.train(6, 3, 0).shard(index, 2) for index in range(2)]
    for _ in range(3):
        ids = next(whole).batch.id
        for index, part in enumerate(parts):
            np.testing.assert_array_equal(next(part).batch.id, ids[index::2])
    with pytest.raises(UserError, match="seed=3, now it is 4"):
        data.train(6, 4, 0).set_state(batches.get_state())


def test_the_gradient_from_cached_features_is_that_from_images(opened, variables):
    """That of the head; the backbone, whose method is not computed, has none."""
    _, data = opened()
    batch = next(data.train(8, 0, 0))

    def loss(params, batch):
        found = {**variables, "params": params}
        mean = apply_model(MODEL, found, batch, method="loss", train=False)["entropy"]
        return mean.total / mean.weight

    ours, theirs = (jax.grad(loss)(variables["params"], b) for b in (batch, batch.batch))
    for name in ("kernel", "bias"):
        assert np.abs(theirs["head"][name]).min() > 0
        np.testing.assert_allclose(ours["head"][name], theirs["head"][name], rtol=1e-4, atol=1e-6)
    assert np.abs(theirs["conv"]["kernel"]).max() > 0
    np.testing.assert_array_equal(ours["conv"]["kernel"], 0)


def test_another_batch_than_the_cached_one_is_computed(opened, variables):
    _, data = opened()
    batch = next(data.train(8, 0, 0))
    wrong = batch.replace(features=jax.tree.map(np.zeros_like, batch.features))
    asked, other = (
        apply_model(model, variables, wrong, method="predict") for model in (MODEL, Frozen(asks=False))
    )
    true = apply_model(MODEL, variables, batch.batch, method="predict")
    assert np.ptp(asked.probabilities, axis=0).max() < 1e-6  # of zeros, the same for all examples
    np.testing.assert_allclose(other.probabilities, true.probabilities, rtol=1e-5)


def test_groups_take_turns_in_proportion_to_their_sizes():
    sizes = [5, 3, 2]
    turns = [turn(number, sizes) for number in range(40)]
    for group, size in enumerate(sizes):
        had = [count for g, count in turns if g == group]
        assert had == list(range(len(had)))  # each batch of each group once, in order
        assert len(had) == 40 * size // 10
        for number in range(40):
            assert abs(sum(g == group for g, _ in turns[:number]) - number * size / 10) < 2


def test_a_batch_holds_examples_of_one_shape(tmp_path):
    shard = ShardFile(tmp_path, "train", 0)
    digest = shard.write({"index": np.int32(index)} for index in range(5))
    groups = [("a", 1), ("b", 1), ("a", 2), ("b", 1)]
    reader = ShardReader([shard], [ShardRecord({}, "", None, groups, digest)])
    batches = FeatureBatches(reader, lambda rows: [int(row["index"]) for row in rows], 3, 0)
    seen = [next(batches) for _ in range(20)]
    assert all({*batch} <= {0, 2, 3} or {*batch} <= {1, 4} for batch in seen)
    count = np.bincount(np.concatenate(seen), minlength=5)
    assert count.sum() == 60
    assert (np.abs(count - 12) <= 1).all()
    batches.close()


def test_a_complete_cache_is_opened_and_nothing_is_computed(opened):
    opened()
    assert len(all_shards(opened.folder)) == 3 + 2
    before = stamps(opened.folder)
    opened()
    assert stamps(opened.folder) == before


CHANGES = {
    "weight": lambda v: {"variables": _moved(v, "conv", "bias")},
    "statistic": lambda v: {"variables": _moved(v, "norm", "mean", "batch_stats")},
    "setting": lambda v: {"model": Frozen(scale=2.0)},
    "dtype": lambda v: {"stage": dataclasses.replace(CACHE, dtype="float16")},
    "shards": lambda v: {"stage": dataclasses.replace(CACHE, examples_per_shard=4)},
}
EQUAL = {
    "weight": lambda v: {"variables": _moved(v, "head", "bias")},
    "setting": lambda v: {"model": Frozen(sharpness=2.0)},
    "devices": lambda v: {"devices": 2},
}


def _moved(variables, module, name, collection="params"):
    old = variables[collection]
    return {**variables, collection: {**old, module: {**old[module], name: old[module][name] + 1}}}


@pytest.mark.parametrize("change", CHANGES)
def test_another_weight_or_option_makes_a_new_one(opened, variables, change, caplog):
    old = means(opened()[0])
    stamp = stamps(opened.folder)
    with caplog.at_level(logging.WARNING, "vision_jax"):
        after, _ = opened(**CHANGES[change](variables))
    assert written(stamp, opened.folder) == all_shards(opened.folder)
    other = {"weight": "weights", "statistic": "weights", "setting": "method"}.get(change, "options")
    assert f"train shards of other {other} are made anew" in caplog.text
    assert (change == "shards") == np.array_equal(old, means(after))


@pytest.mark.parametrize("what", EQUAL)
def test_what_the_method_does_not_depend_on_makes_none(opened, variables, what):
    opened()
    before = stamps(opened.folder)
    opened(**EQUAL[what](variables))
    assert stamps(opened.folder) == before


def test_a_changed_image_makes_its_shard_anew(opened, caplog):
    old = means(opened()[0])
    before = stamps(opened.folder)
    with caplog.at_level(logging.WARNING, "vision_jax"):
        new, data = opened(changed=(9, 113))
    assert written(before, opened.folder) == ["train-00001.array_record", "val-00001.array_record"]
    assert "1 train shards of other examples" in caplog.text
    assert np.flatnonzero((old != means(new)).any(-1)).tolist() == [9]
    rows = {int(i): b for _ in range(6) for batch in [next(data.train(24, 0, 0))] for i, b in
            zip(batch.batch.id, batch.batch.image, strict=True)}  # fmt: skip
    assert (rows[9][0, 0] != make_batch([9]).image[0, 0, 0]).any()


def test_a_fingerprint_saves_reading_and_is_compared_when_it_differs(opened):
    opened(fingerprint="a")
    before = stamps(opened.folder)
    opened(fingerprint="a", changed=(9,))  # a change that the fingerprint does not show
    assert stamps(opened.folder) == before
    opened(fingerprint="a", changed=(3,))  # another, in the first shard, which is always compared
    assert written(before, opened.folder) == ["train-00000.array_record"]
    opened(fingerprint="a")
    before = stamps(opened.folder)
    opened(fingerprint="b", changed=(9,))
    assert written(before, opened.folder) == ["train-00001.array_record"]
    before = stamps(opened.folder)
    opened(fingerprint="c", changed=(9,))  # as when files were copied: read, and found equal
    assert written(before, opened.folder) == []
    before = stamps(opened.folder)
    opened(fingerprint="c", changed=(9,))
    assert stamps(opened.folder) == before


@pytest.mark.parametrize("damage", ["byte", "gone", "cut", "record"])
def test_a_damaged_shard_is_named_and_made_anew(opened, damage, caplog):
    opened()
    before, sound = stamps(opened.folder), contents(opened.folder)
    shard = opened.folder / "train-00002.array_record"
    if damage == "byte":
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    elif damage == "gone":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-7])
    else:
        record = shard.with_suffix(".json")
        record.write_bytes(record.read_bytes().replace(b'"inputs": "', b'"inputs": "0'))
    with caplog.at_level(logging.WARNING, "vision_jax"):
        opened()
    assert written(before, opened.folder) == ["train-00002.array_record"]
    (warning,) = caplog.records
    assert "train-00002" in warning.message
    assert contents(opened.folder) == sound


def test_eight_devices_make_the_cache_of_one(opened, tmp_path):
    one, _ = opened()
    eight, _ = opened(devices=8, folder=tmp_path / "eight", stage=dataclasses.replace(CACHE, batch_size=8))
    for split, count in (("train", 24), ("val", 14)):
        x, y = (cache.features(split, range(count), count) for cache in (one, eight))
        np.testing.assert_allclose(x["mean"], y["mean"], rtol=1e-5, atol=1e-6)


def test_float16_is_refused_where_it_overflows(opened):
    large = Frozen(scale=1e8)
    with pytest.raises(UserError, match="float16"):
        opened(model=large, stage=dataclasses.replace(CACHE, dtype="float16"))


def test_a_method_that_is_not_there_or_gives_no_batch_is_refused(opened):
    with pytest.raises(UserError, match="has no method 'pool5'"):
        opened(stage=dataclasses.replace(CACHE, method="pool5"))
    with pytest.raises(UserError, match="batch's axis"):
        opened(stage=dataclasses.replace(CACHE, method="brightness"))


def test_a_method_depends_on_the_variables_that_it_reads(variables):
    method = FrozenMethod.of(MODEL, variables, make_batch(range(3)), "features")
    assert {path[1] for path in method.used} == {"conv", "norm"}
    assert {path[0] for path in method.used} == {"params", "batch_stats"}


def test_a_shard_has_no_record_before_it_is_complete(tmp_path):
    shard = ShardFile(tmp_path, "train", 0)

    def broken():
        yield {"x": np.zeros(3)}
        raise RuntimeError("cut")

    with pytest.raises(UserError, match="cut"):
        shard.write(broken())
    assert shard.read_record() is None
    assert not shard.path.exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, processes):
    """A run with a cache that nothing has interrupted, in a process of its own."""
    run = tmp_path_factory.mktemp("cached") / "whole"
    process = processes(run, target=train_cached)
    process.join(120)
    assert process.exitcode == 0
    return run


@pytest.mark.slow
def test_the_evaluation_of_a_run_on_cached_features_is_that_on_images(whole):
    assert (
        "stage pool: features of 24 train and 14 val examples, 5 of 5 shards"
        in (whole / "log.txt").read_text()
    )
    found = load_variables(whole)
    experiment = cached_experiment()
    data = experiment.task.open(None)
    one = next(iter(data.once("val", 14)))
    loss = Frozen().apply(found, one, method="loss", train=False)["entropy"]
    results = json.loads((whole / "results.json").read_text())["default"]
    assert results["loss"] == pytest.approx(float(loss.total / loss.weight), rel=1e-5)
    assert results["loss"] < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_run_resumes_after_its_cache_without_computing_it_again(tmp_path, ema, monkeypatch):
    head = dataclasses.replace(HEAD, ema=ema)
    stages = (Gradient(BEFORE, "before"), CACHE, Gradient(head, "head", freeze=("conv", "norm")))
    fit(cached_experiment(stages), tmp_path / "whole", devices=1)

    def cut(self):
        if self._next == 8:
            raise RuntimeError("cut")
        return taken(self)

    taken = FeatureBatches.__next__
    with monkeypatch.context() as patch:
        patch.setattr(FeatureBatches, "__next__", cut)
        with pytest.raises(RuntimeError, match="cut"):
            fit(cached_experiment(stages), tmp_path / "run", devices=1)
    before = stamps(tmp_path / "run" / "cache" / "pool")
    fit(cached_experiment(stages), tmp_path / "run", devices=1, resume=True)
    assert stamps(tmp_path / "run" / "cache" / "pool") == before
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_a_cache_killed_five_times_ends_equal_to_the_bit(whole, processes, tmp_path):
    run = tmp_path / "run"
    for kill, shards in enumerate((0, 1, 1, 0, 2)):
        process = processes(run, target=train_cached, resume=kill > 0, kill_after=shards)
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    process = processes(run, target=train_cached, resume=True)
    process.join(120)
    assert process.exitcode == 0
    assert contents(run / "cache" / "pool") == contents(whole / "cache" / "pool")
    assert "1 of 5 shards computed" in (run / "log.txt").read_text()
    assert_same_run(whole, run)


@pytest.mark.slow
def test_two_processes_compute_every_other_shard(whole, processes, tmp_path):
    run = tmp_path / "run"
    assert finish(start(processes, run, target=train_cached)) == [0, 0]
    ours, theirs = (contents(folder / "cache" / "pool") for folder in (run, whole))
    assert ours.keys() == theirs.keys()
    for folder, count in ((run / "log.txt", 3), (run / "log.1.txt", 2)):
        assert f"{count} of 5 shards computed" in folder.read_text()
    for a, b in zip(*(jax.tree.leaves(load_variables(r)) for r in (run, whole)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_stage_that_would_move_what_is_cached_is_refused(tmp_path):
    def fails(name, *stages, **options):
        with pytest.raises(UserError) as error:
            fit(cached_experiment(stages, **options), tmp_path / name, devices=1)
        return str(error.value)

    short = dataclasses.replace(HEAD, steps=1)
    frozen = ("conv", "norm")
    assert "freeze conv, norm" in fails("a", CACHE, Gradient(short, "head"))
    doubled = Gradient(short, "head", lambda model: model.copy(scale=2.0), frozen)
    assert "stage head: its model has other settings for the cached features" in fails("b", CACHE, doubled)

    def shift(model, variables, data, key, progress):
        assert next(iter(data.once("train", 4))).features["mean"].shape == (4, 8)
        progress(1, 1)
        return _moved(variables, "conv", "bias")

    assert "stage shift changes variables" in fails("c", CACHE, Fit("shift", shift))
    deaf = Frozen(asks=False)
    assert "does not call features(batch)" in fails(
        "d", CACHE, Gradient(short, "h", freeze=frozen), model=deaf
    )
    assert "two stages Cache have one name" in fails("e", CACHE, CACHE)


@pytest.mark.slow
def test_an_evaluation_with_other_settings_of_the_method_sees_images(tmp_path):
    """Doubled features double the logits of a head without a bias; the cache holds the others."""
    stages = (CACHE, Gradient(dataclasses.replace(HEAD, steps=2), "head", freeze=("conv", "norm")))
    ways = {
        "zero": Evaluation(lambda model: model.copy(scale=0.0)),
        "same": Evaluation(lambda model: model.copy(sharpness=1.0)),
    }
    fit(cached_experiment(stages, evaluations=ways), tmp_path / "run", devices=1)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["same"]["loss"] == results["default"]["loss"]
    variables = load_variables(tmp_path / "run")
    one = next(iter(cached_experiment().task.open(None).once("val", 14)))
    loss = Frozen(scale=0.0).apply(variables, one, method="loss", train=False)["entropy"]
    assert results["zero"]["loss"] == pytest.approx(float(loss.total / loss.weight), rel=1e-5)
    assert results["zero"]["loss"] != results["default"]["loss"]
