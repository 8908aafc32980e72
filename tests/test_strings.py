"""A task of a new kind of data, from its files to every command: strings, and a metric to minimize."""

import csv
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.strings.recipe import experiment
from tests.strings.spec import StringSpec
from tests.training.runs import assert_same_run
from vision_jax.cli import main
from vision_jax.evaluation import read_per_image
from vision_jax.training import TrainConfig, evaluate, fit, load_variables
from vision_jax.training.checkpoints import Checkpoints
from vision_jax.types import UserError

RECIPE = str(Path(__file__).parent / "strings" / "recipe.py")
LETTERS = "abcde"


def strings(rng, count):
    """Each letter is as many letters on from the one before as the second is from the first."""
    starts, steps, lengths = rng.integers(0, 5, count), rng.integers(1, 3, count), rng.integers(4, 13, count)
    return [
        "".join(LETTERS[(start + step * i) % 5] for i in range(length))
        for start, step, length in zip(starts, steps, lengths, strict=True)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("strings"), np.random.default_rng(0)
    (folder / "train.txt").write_text("\n".join(strings(rng, 60)))
    (folder / "val.txt").write_text("\n".join(strings(rng, 21)))
    return folder


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    words = ["--train.checkpoint-every", "30", "--train.eval-every", "45"]
    assert main(["train", RECIPE, "--data", str(folder), *words, "--out", str(run), "--devices", "1"]) == 0
    return run


def nll_by_step(run):
    with (run / "metrics.csv").open() as file:
        return {int(row["step"]): float(row["val/nll"]) for row in csv.DictReader(file) if row["val/nll"]}


def test_it_learns_and_the_lowest_metric_is_the_best(run):
    found = nll_by_step(run)
    assert found[90] < 0.8  # letters alone: log 5 = 1.6; the first two and the end are random
    record = json.loads((run / "experiment.json").read_text())
    assert (record["metric"], record["minimize"]) == ("nll", True)
    best = Checkpoints(run / "checkpoints").best()
    assert found[best.step] == min(found.values())


def test_the_vocabulary_is_a_file_and_a_changed_one_is_noticed(run, tmp_path, capsys):
    record = json.loads((run / "experiment.json").read_text())
    assert (run / "vocabulary.txt").read_text().split("\n") == list(LETTERS)
    assert set(record["spec"]) == {"vocabulary", "lengths"}
    assert len(record["spec"]["lengths"]) == 2
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "vocabulary.txt").write_text("b\na\nc\nd\ne")
    assert main(["evaluate", str(copy)]) == 2
    assert "is not the vocabulary that the run was trained with" in capsys.readouterr().err


def test_a_resumed_run_has_the_same_bits(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints/90")
    assert main(["train", "--resume", str(copy), "--devices", "1"]) == 0
    assert_same_run(run, copy)


def test_evaluations_choose_what_they_compute_and_keep_it_for_each_string(run, capsys):
    assert main(["evaluate", str(run)]) == 0
    results = json.loads((run / "evaluate/results.json").read_text())
    assert set(results["default"]) == {"loss", "nll", "exact"}
    assert set(results["nll"]) == {"loss", "nll"}
    kept = read_per_image(run / "evaluate")
    assert len(kept.ids) == 21
    metrics = kept.metrics(np.ones((1, 21)))
    assert metrics["nll"][0] == pytest.approx(results["default"]["nll"], rel=1e-6)
    first = read_per_image(run / "evaluate/nll")
    assert sorted(first.ids) == list(range(8))
    assert not (run / "evaluate/nll/predictions.png").exists()


def test_the_beginning_of_a_string_is_completed(run, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("aceb")
    (tmp_path / "b.txt").write_text("axe")
    words = ["predict", str(run), str(tmp_path / "a.txt"), str(tmp_path / "b.txt"), "--out", str(tmp_path)]
    assert main(words) == 1
    assert "the character 'x' of 'axe' is not in the vocabulary" in capsys.readouterr().err
    (answer,) = json.loads((tmp_path / "predictions.json").read_text())
    assert answer["text"].startswith("acebd"[:5])


def test_samples_depend_on_their_number_alone(folder, tmp_path):
    hot = experiment(str(folder), temperature=1.0, train=TrainConfig(steps=2, batch_size=8, warmup_steps=0))
    recipe = {"file": Path(RECIPE), "arguments": {"data": str(folder), "temperature": 1.0}}
    fit(hot, tmp_path / "run", devices=1, **recipe)
    texts = []
    for words in (["--count", "9"], ["--first", "5", "--count", "4"]):
        assert main(["sample", str(tmp_path / "run"), *words, "--out", str(tmp_path)]) == 0
        texts.append([answer["text"] for answer in json.loads((tmp_path / "samples.json").read_text())])
    assert len(texts[0]) == 9
    assert len(set(texts[0])) > 4
    assert texts[0][5:] == texts[1]
    assert (tmp_path / "samples.png").stat().st_size > 100


def test_other_strings_are_evaluated_with_the_runs_vocabulary(run, folder, tmp_path):
    (tmp_path / "train.txt").write_text("ab")
    (tmp_path / "val.txt").write_text("cdeab\nedcba\n")
    reports = evaluate(experiment(str(tmp_path)), run, out=tmp_path / "out", devices=1)
    assert set(reports["default"].metrics) == {"loss", "nll", "exact"}
    (tmp_path / "val.txt").write_text("xyz")
    with pytest.raises(UserError, match="'x' of 'xyz' is not in the vocabulary of the run"):
        evaluate(experiment(str(tmp_path)), run, out=tmp_path / "out", devices=1)


def test_eight_devices_take_the_steps_of_one(folder, tmp_path):
    config = TrainConfig(steps=3, batch_size=16, optimizer="sgd", learning_rate=0.5, warmup_steps=0)
    found = []
    for devices in (1, 8):
        fit(experiment(str(folder), train=config), tmp_path / str(devices), devices=devices)
        found.append(load_variables(tmp_path / str(devices)))
    for one, eight in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, eight, rtol=2e-4, atol=2e-6)


@pytest.mark.slow
def test_a_sweep_of_strings_is_reported(folder, tmp_path):
    words = ["--data", str(folder), "--train.steps", "6", "--out", str(tmp_path / "sweep")]
    assert main(["sweep", RECIPE, *words]) == 0
    assert "nll" in (tmp_path / "sweep/table.md").read_text()


def test_strings_that_are_too_long_are_counted(folder):
    data = experiment(str(folder), lengths=(4, 8)).task.open(None)
    long = sum(len(line) > 8 for line in (folder / "train.txt").read_text().splitlines())
    assert data.summary().metrics["train/truncated"] == long > 0
    shapes = {batch.tokens.shape for batch in data.once("train", 8)}
    assert shapes == {(8, 4), (8, 8)}


def test_a_spec_is_told_from_another(tmp_path):
    one, other = StringSpec(("a", "b"), (4,)), StringSpec(("b", "a"), (4,))
    assert one.fingerprint() != other.fingerprint()
    assert StringSpec.from_json(json.loads(json.dumps(one.to_json(tmp_path))), tmp_path) == one
