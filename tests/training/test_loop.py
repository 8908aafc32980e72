import dataclasses
import json
import shutil
import signal
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from tests.training.runs import assert_same_run, rows
from tests.training.tiny_training import CLASSES, DEFAULTS, experiment, make_batch
from vision_jax.training import Fit, Gradient, Stopped, evaluate, fit, load_variables, predictor
from vision_jax.training.checkpoints import Checkpoints
from vision_jax.training.experiment import Evaluation
from vision_jax.training.optimizers import optimizer
from vision_jax.types import UserError

SHARP = {"sharp": Evaluation(lambda model: model.copy(sharpness=3.0))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run on two devices with a second way to predict, and its report."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    file = run.with_name("my_experiment.py")
    file.write_text("# an experiment\n")
    plotted = []

    def plot_curves(of):
        plotted.append([dict(row) for row in of])
        return np.full((2, 3, 3), 7, np.uint8)

    def sharper(model):
        return model.copy(sharpness=3.0)

    report = fit(
        experiment(evaluations={"sharp": Evaluation(sharper)}, curves=plot_curves),
        run,
        devices=2,
        file=file,
        arguments={"lr": 0.05, "where": Path("x")},
    )
    return run, report, plotted


def test_the_run_learns_and_reports(finished):
    _, report, _ = finished
    assert report.metrics["accuracy"] == 1.0
    assert report.metrics["loss"] < 0.5
    assert report.metrics["loss"] == pytest.approx(report.metrics["entropy"] + report.metrics["size"])


def test_metrics_have_a_row_for_each_interval_and_each_evaluation(finished):
    run, report, _ = finished
    found = rows(run)
    train = [row for row in found if row["train/loss"]]
    assert [int(row["step"]) for row in train] == [4, 8, 12, 16, 20, 24]
    assert [int(row["step"]) for row in found if row["val/accuracy"]] == [9, 18, 24]
    assert float(train[0]["train/learning_rate"]) == pytest.approx(0.05)
    assert float(train[-1]["train/loss"]) < float(train[0]["train/loss"])
    last = next(row for row in reversed(found) if row["val/accuracy"])
    assert float(last["val/loss"]) == report.metrics["loss"]
    assert float(found[-1]["val/sharp/accuracy"]) == 1.0


def test_the_run_folder_holds_what_is_needed_to_understand_it(finished):
    run, _, plotted = finished
    record = json.loads((run / "experiment.json").read_text())
    assert record["spec"] == {"classes": list(CLASSES), "canvas": [8, 8]}
    assert record["arguments"] == {"lr": 0.05, "where": "x"}
    assert record["seed"] == 0
    assert len(record["devices"]) == 2
    assert record["versions"]["jax"] == jax.__version__
    assert (run / "experiment.py").read_text() == "# an experiment\n"
    assert (run / "accuracy.md").read_text().startswith("| accuracy |")
    assert (run / "evaluations/sharp/accuracy.txt").exists()
    assert Image.open(run / "train_batch.png").size == (8 * 8, 8)
    assert Image.open(run / "predictions.png").size == (8 * 8, 8)
    assert np.asarray(Image.open(run / "curves.png")).tolist() == np.full((2, 3, 3), 7).tolist()
    assert [row["step"] for row in plotted[0]] == [4, 8, 9]
    assert json.loads((run / "results.json").read_text())["sharp"]["accuracy"] == 1.0
    log = (run / "log.txt").read_text()
    assert "step 24/24" in log
    assert "| accuracy |" in log
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert not list(run.rglob("*.tmp"))


def test_best_and_last_are_kept(finished):
    run, _, _ = finished
    newest = Checkpoints(run / "checkpoints").newest()
    best = Checkpoints(run / "checkpoints").best()
    assert newest.step == 24
    assert best.step == newest.best_step
    accuracies = {int(r["step"]): float(r["val/accuracy"]) for r in rows(run) if r["val/accuracy"]}
    assert accuracies[best.step] == max(accuracies.values()) == newest.best


def test_a_second_run_has_the_same_bits_and_another_seed_has_not(finished, tmp_path):
    run, _, _ = finished
    fit(experiment(evaluations=SHARP), tmp_path / "again", devices=2)
    assert_same_run(run, tmp_path / "again")
    fit(experiment(dataclasses.replace(DEFAULTS, steps=4), seed=1), tmp_path / "other", devices=2)
    assert rows(tmp_path / "other")[0] != {k: rows(run)[0][k] for k in rows(tmp_path / "other")[0]}


def test_evaluating_a_checkpoint_repeats_its_figures(finished, tmp_path):
    run, report, _ = finished
    tiny = experiment(evaluations=SHARP)
    reports = evaluate(tiny, run, out=tmp_path, devices=3)  # 8 images do not split over 3 devices: 9 do
    assert reports["default"].metrics["accuracy"] == report.metrics["accuracy"]
    assert reports["default"].metrics["loss"] == pytest.approx(report.metrics["loss"], rel=1e-5)
    assert (tmp_path / "accuracy.md").exists()
    assert (tmp_path / "sharp/predictions.png").exists()
    best = evaluate(tiny, run, which="best", devices=2)
    assert best["default"].metrics["accuracy"] == 1.0
    assert (run / "evaluate/results.json").exists()


def test_predicting_needs_no_data_and_takes_any_number_of_images(finished):
    run, _, _ = finished
    tiny = experiment()
    tiny.task.open = None.__class__
    predict = predictor(tiny, run, devices=2)
    images = make_batch([200, 201, 202])
    batch = tiny.task.prepare(list(images.image), [200, 201, 202], None)
    predictions = predict(batch)
    assert predictions.labels.tolist() == [200 % 3, 201 % 3, 202 % 3]
    sharp = predictor(experiment(evaluations=SHARP), run,
                      evaluation="sharp", devices=1)(batch)  # fmt: skip
    assert sharp.probabilities.max() > predictions.probabilities.max()
    with pytest.raises(UserError, match="'dull' is none of default"):
        predictor(tiny, run, evaluation="dull")


def test_a_finished_run_resumed_changes_nothing(finished, tmp_path):
    run, report, _ = finished
    before = (run / "metrics.csv").read_bytes()
    again = fit(experiment(evaluations=SHARP), run, resume=True, devices=2)
    assert (run / "metrics.csv").read_bytes().splitlines()[:-1] == before.splitlines()[:-1]
    assert again.metrics["loss"] == report.metrics["loss"]
    assert "resumed" in json.loads((run / "experiment.json").read_text())


def test_the_last_checkpoint_lost_the_run_goes_back_to_the_one_before(finished, tmp_path):
    run, _, _ = finished
    copy = shutil.copytree(run, tmp_path / "copy")
    files = [path for path in (copy / "checkpoints/24").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    fit(experiment(evaluations=SHARP), copy, resume=True, devices=2)
    assert_same_run(run, copy)
    log = (copy / "log.txt").read_text()
    assert "checkpoints/24 is passed over" in log
    assert "resumes at step 20" in log


def test_overfitting_trains_and_evaluates_on_the_same_few_images(tmp_path):
    quick = dataclasses.replace(DEFAULTS, steps=3, eval_every=0, checkpoint_every=0)
    fit(experiment(quick), tmp_path / "run", overfit=4, devices=1)
    assert Image.open(tmp_path / "run/predictions.png").size == (8 * 8, 8)
    assert json.loads((tmp_path / "run/experiment.json").read_text())["overfit"] == 4
    iterator = Checkpoints(tmp_path / "run/checkpoints").newest().iterator
    assert iterator == {"position": 24}
    fit(experiment(quick), tmp_path / "run", resume=True, devices=1)  # without saying so again
    assert Image.open(tmp_path / "run/predictions.png").size == (8 * 8, 8)


def shift(model, variables, data, key, progress):
    """A stage without gradients: moves the head's bias and adds a collection."""
    batch = next(data.train(4, 0, 0))
    assert batch.image.shape == (4, 8, 8, 3)
    params = dict(variables["params"])
    params["head"] = {**params["head"], "bias": params["head"]["bias"] + 1}
    return {
        **variables,
        "params": params,
        "cache": {"calls": np.int32(variables.get("cache", {}).get("calls", 0) + 1)},
    }


@pytest.mark.slow
def test_stages_run_in_order_and_a_run_continues_in_the_middle_of_any(tmp_path):
    short = dataclasses.replace(DEFAULTS, steps=6, eval_every=3, checkpoint_every=2)
    stages = (Gradient(short, "first"), Fit("shift", shift), Gradient(short, "second"))
    whole = tmp_path / "whole"
    fit(experiment(stages=stages, state_as_bytes=True), whole, devices=1)
    newest = Checkpoints(whole / "checkpoints").newest()
    assert (newest.step, newest.stage, newest.stage_name) == (13, 2, "second")
    assert load_variables(whole)["cache"]["calls"] == 1
    assert [int(r["step"]) for r in rows(whole) if r["val/loss"]] == [3, 6, 10, 13]

    for stop_at, name in ((6, "a"), (7, "b"), (9, "c")):
        cut = tmp_path / name
        with pytest.raises(RuntimeError, match="cut"):
            fit(cut_short(experiment(stages=stages, state_as_bytes=True), cut, stop_at), cut, devices=1)
        assert Checkpoints(cut / "checkpoints").newest().step == stop_at
        fit(experiment(stages=stages, state_as_bytes=True), cut, resume=True, devices=1)
        assert_same_run(whole, cut)


@pytest.mark.slow
def test_a_stage_may_train_the_module_with_other_settings(tmp_path):
    short = dataclasses.replace(DEFAULTS, steps=2)
    frozen = Gradient(short, "frozen", lambda model: model.copy(frozen=True))
    for name, stages in (("one", (frozen,)), ("two", (frozen, Gradient(short)))):
        fit(experiment(stages=stages), tmp_path / name, devices=1)
    frozen, moved = (load_variables(tmp_path / name)["batch_stats"]["norm1"] for name in ("one", "two"))
    np.testing.assert_array_equal(frozen["mean"], 0)
    np.testing.assert_array_equal(frozen["var"], 1)
    assert np.abs(moved["mean"]).min() > 0


@pytest.mark.slow
def test_a_run_starts_from_what_it_is_given_and_frozen_parts_stay(tmp_path):
    given = []

    def trained(variables):
        given.append(jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.25), variables))
        return given[-1]

    short = dataclasses.replace(DEFAULTS, steps=4)
    stages = (Gradient(short, "head", freeze=("conv1", "norm1")), Gradient(short, "all"))
    begun = dataclasses.replace(experiment(stages=stages), init=trained)
    fit(begun, tmp_path / "run", devices=2)
    after_head = Checkpoints(tmp_path / "run" / "checkpoints").restore_variables(4)
    after_all = load_variables(tmp_path / "run")
    for part in ("conv1", "norm1"):
        jax.tree.map(np.testing.assert_array_equal, after_head["params"][part], given[0]["params"][part])
        assert np.any(after_all["params"][part].popitem()[1] != given[0]["params"][part].popitem()[1])
    assert np.any(after_head["params"]["head"]["kernel"] != given[0]["params"]["head"]["kernel"])
    fit(begun, tmp_path / "run", resume=True, devices=2)
    assert len(given) == 1
    wrong = dataclasses.replace(begun, stages=(Gradient(short, freeze=("stem",)),))
    with pytest.raises(UserError, match="is called 'stem'; there are conv1, conv2, head, norm1, norm2"):
        fit(wrong, tmp_path / "wrong", devices=2)


def cut_short(tiny, run, step):
    """The experiment, failing as soon as the checkpoint of a step is there."""

    def changed(data):
        train, once = data.train, data.once

        def fail():
            if (run / "checkpoints" / str(step)).exists():
                raise RuntimeError("cut")

        class Stream:
            def __init__(self, inner):
                self.inner = inner

            def __iter__(self):
                return self

            def __next__(self):
                fail()
                return next(self.inner)

            def get_state(self):
                return self.inner.get_state()

            def set_state(self, state):
                self.inner.set_state(state)

        def failing_once(*arguments):
            fail()
            return once(*arguments)

        data.train, data.once = lambda *arguments: Stream(train(*arguments)), failing_once
        return data

    tiny.task.changed = changed
    return tiny


@pytest.mark.slow
def test_an_averaged_run_in_parts_and_bfloat16_continues_to_the_same_bits(tmp_path):
    config = dataclasses.replace(
        DEFAULTS, steps=8, eval_every=4, checkpoint_every=3, ema=0.9, accumulate=2, precision="bfloat16"
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    fit(experiment(config), whole, devices=2)
    with pytest.raises(RuntimeError, match="cut"):
        fit(cut_short(experiment(config), cut, 6), cut, devices=2)
    fit(experiment(config), cut, resume=True, devices=2)
    assert_same_run(whole, cut)

    checkpoints = Checkpoints(whole / "checkpoints")
    averaged = checkpoints.restore_variables(8)
    own = {"step": 0, "opt_state": optimizer(config).init(averaged["params"])}
    raw = checkpoints.restore_optimizer(8, {"players": [own], "variables": averaged})
    for a, b in zip(jax.tree.leaves(averaged), jax.tree.leaves(raw["variables"]), strict=True):
        assert a.dtype == b.dtype == np.float32
        assert np.any(a != b)
    reports = evaluate(experiment(config), whole, out=tmp_path, devices=2)
    last = next(row for row in reversed(rows(whole)) if row["val/loss"])
    assert reports["default"].metrics["loss"] == float(last["val/loss"])


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(
        UserError, match=r"not finite at step 7: loss = nan, entropy = nan.*nonfinite_batch_step_7"
    ):
        fit(experiment(bad_step=7), run, devices=2)
    assert "not finite at step 7" in (run / "log.txt").read_text()
    kept = np.load(run / "nonfinite_batch_step_7.npz")
    assert np.isnan(kept["image"]).all()
    assert kept["id"].shape == (8,)
    assert Checkpoints(run / "checkpoints").newest().step == 5
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(load_variables(run)))
    fit(experiment(), run, resume=True, devices=2)  # without the bad batch it continues
    assert Checkpoints(run / "checkpoints").newest().step == 24


@pytest.mark.slow
def test_steps_can_be_traced(tmp_path):
    quick = dataclasses.replace(DEFAULTS, steps=16, eval_every=0, checkpoint_every=0)
    fit(experiment(quick), tmp_path / "run", profile=True, devices=1)
    assert list((tmp_path / "run/profile").rglob("*.xplane.pb"))


@pytest.mark.slow
def test_an_interrupt_from_the_keyboard_saves_first(tmp_path):
    timer = threading.Timer(0.0, signal.raise_signal, [signal.SIGINT])
    handler = signal.getsignal(signal.SIGINT)

    def changed(data):
        train = data.train

        def started(*arguments):
            stream = train(*arguments)
            timer.interval = 0.3
            timer.start()
            return stream

        data.train = started
        return data

    with pytest.raises(Stopped) as stopped:
        fit(experiment(delay=0.05, changed=changed), tmp_path / "run", devices=1)
    assert stopped.value.code == 130
    assert signal.getsignal(signal.SIGINT) is handler
    fit(experiment(), tmp_path / "run", resume=True, devices=1)
    fit(experiment(), tmp_path / "whole", devices=1)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_folders_that_do_not_fit_are_refused(finished, tmp_path):
    run, _, _ = finished
    with pytest.raises(UserError, match="holds a run already; continue it with --resume"):
        fit(experiment(), run)
    with pytest.raises(UserError, match=r"not a run folder: experiment\.json is missing"):
        fit(experiment(), tmp_path, resume=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no checkpoint yet"):
        load_variables(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file"):
        fit(experiment(), tmp_path / "file")
    with pytest.raises(UserError, match="began with seed 0, not 1"):
        fit(experiment(seed=1), run, resume=True)
    with pytest.raises(UserError, match="use 8 or 16"):
        fit(experiment(dataclasses.replace(DEFAULTS, batch_size=12)), tmp_path / "odd", devices=8)
