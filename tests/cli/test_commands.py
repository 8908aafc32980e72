"""The commands end to end, on the 8x8 digits, with a network that trains in a second."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.paths import EXPERIMENTS
from vision_jax.cli import MALLOC, main
from vision_jax.cli.experiments import arguments_to_json, defaults_to_json, load_experiment, parse
from vision_jax.cli.train import TrainOptions

FILE = str(EXPERIMENTS / "classifier.py")
TINY = ["--widths", "4", "8", "--train.steps", "4", "--train.batch-size", "16", "--train.warmup-steps", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, trained by the command on one device."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    code = main(["train", FILE, *TINY, "--train.eval-every", "2", "--devices", "1", "--out", str(folder)])
    assert code == 0
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with two photographs of different shapes, one of them a folder deeper, and a broken one."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(folder / "wide.png")
    (folder / "deeper").mkdir()
    Image.fromarray(rng.integers(0, 255, (30, 20), np.uint8)).save(folder / "deeper" / "wide.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    return folder


def test_training_records_its_arguments_with_what_the_data_decided(run):
    record = json.loads((run / "experiment.json").read_text())
    assert record["arguments"]["canvas"] == [8, 8]
    assert record["arguments"]["widths"] == [4, 8]
    assert record["arguments"]["train"]["steps"] == 4
    assert record["classes"] == [str(digit) for digit in range(10)]
    assert (run / "experiment.py").read_text() == Path(FILE).read_text()
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert max(int(row["step"]) for row in rows) == 4
    for name in ("curves.png", "train_batch.png", "predictions.png", "per_class_accuracy.md"):
        assert (run / name).stat().st_size > 0


def test_evaluating_gives_the_figures_that_training_ended_with(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--devices", "1", "--out", str(tmp_path)]) == 0
    trained = json.loads((run / "results.json").read_text())
    judged = json.loads((tmp_path / "results.json").read_text())
    assert judged["default"]["accuracy"] == trained["default"]["accuracy"]
    np.testing.assert_allclose(judged["default"]["loss"], trained["default"]["loss"], rtol=1e-6)
    assert (tmp_path / "predictions.png").exists()
    assert "accuracy" in capsys.readouterr().out


def test_predicting_names_the_bad_photograph_and_goes_on(run, photos, tmp_path, capsys):
    assert main(["predict", str(run), str(photos), "--out", str(tmp_path / "out")]) == 1
    assert "broken.jpg" in capsys.readouterr().err
    answers = json.loads((tmp_path / "out" / "predictions.json").read_text())
    names = {answer["file"] for answer in answers}
    assert names == {str(photos / "wide.png"), str(photos / "deeper" / "wide.jpg")}
    for answer in answers:
        best = list(answer["best"].values())
        assert best == sorted(best, reverse=True)
        assert answer["category"] == next(iter(answer["best"]))
        assert 0 < sum(best) <= 1.001
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"wide.png", "wide-2.png"}


def test_predicting_photographs_that_are_not_there_says_so(run, photos, tmp_path, capsys):
    assert main(["predict", str(run), str(photos / "nothing.jpg"), "--out", str(tmp_path)]) == 2
    assert "nothing.jpg" in capsys.readouterr().err
    assert main(["predict", str(run), str(photos / "broken.jpg"), "--out", str(tmp_path)]) == 2
    assert "none of 1" in capsys.readouterr().err


def test_resuming_takes_the_same_arguments_and_refuses_others(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    changed = ["train", FILE, *TINY, "--seed", "3", "--train.steps", "9", "--resume", str(copy)]
    assert main(changed) == 2
    message = capsys.readouterr().err
    assert "--seed is 0 in the run, not 3" in message
    assert "--train.steps is 4 in the run, not 9" in message
    assert f"{FILE} an argument `init`" in message
    assert f"--init {copy}" in message
    assert main(["train", "--resume", str(copy), "--overfit", "5"]) == 2
    assert "--overfit is 0 in the run, not 5" in capsys.readouterr().err
    assert main(["train", FILE, *TINY, "--resume", str(copy), "--devices", "1"]) == 0
    assert len(json.loads((copy / "experiment.json").read_text())["resumed"]) == 1


def test_resuming_with_more_steps_says_how_to_begin_with_the_weights(tmp_path, capsys):
    file = EXPERIMENTS / "image_classifier.py"
    run = tmp_path / "a run"
    run.mkdir()
    shutil.copy(file, run / "experiment.py")
    function = load_experiment(file)
    recorded = {
        **defaults_to_json(function),
        "network": "mobilenet_v2",
        "freeze": ["stem"],
        "init": "old.pth",
    }
    record = {"file": str(file), "arguments": recorded, "classes": ["a"], "seed": 0, "overfit": 0}
    (run / "experiment.json").write_text(json.dumps(record))

    def suggested(*words):
        assert main(["train", "--resume", str(run), *words]) == 2
        command = shlex.split(capsys.readouterr().err.partition("optimizer and schedule: ")[2])
        assert command[:3] == ["vision-jax", "train", str(file)]
        return parse(function, command[3:], "", TrainOptions())

    arguments, options = suggested("--train.steps", "900", "--seed", "3")
    changed = {"init": str(run), "seed": 3, "train": {**recorded["train"], "steps": 900}}
    assert arguments_to_json(arguments) == {**recorded, **changed}
    assert options == TrainOptions()
    arguments, options = suggested("--init", "other.pth", "--overfit", "8", "--out", "new")
    assert arguments_to_json(arguments) == {**recorded, "init": "other.pth"}
    assert options == TrainOptions(overfit=8, out=Path("new"))
    file = run / "experiment.py"  # the only one that is left, where the experiment's file is gone
    (run / "experiment.json").write_text(json.dumps({**record, "file": str(tmp_path / "gone.py")}))
    assert suggested("--train.steps", "900")[0]["init"] == str(run)


def test_other_data_with_unknown_classes_are_refused(run, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).save(tmp_path / split / name / "a.png")
    assert main(["evaluate", str(run), "--data", f"folder:{tmp_path}", "--devices", "1"]) == 2
    assert "cat" in capsys.readouterr().err


def test_showing_memory_prints_a_line_in_the_number_of_images(capsys):
    assert main(["show", FILE, *TINY, "--memory", "16", "8"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| 8", "| 16"]
    assert main(["show", FILE, *TINY, "--memory", "8", "8"]) == 2
    assert "two different numbers" in capsys.readouterr().err


def test_showing_writes_a_picture_and_counts(tmp_path, capsys):
    assert main(["show", FILE, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "train/images" in shown
    assert "1437" in shown
    assert Image.open(tmp_path / "data.png").width > 100
    assert "| all | 1437 | 360 |" in (tmp_path / "classes.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "did you mean `train`"),
        (["train", "experiments/clasifier.py"], "classifier.py"),
        (["train", FILE, "--data", "digit"], "digits"),
        (["train", FILE, "--overfit", "-1"], "--overfit"),
        (["train", FILE, "--devices", "0"], "--devices"),
        (["train", FILE, "--canvas", "8", "16"], "long side first"),
        (["train", "--resume"], "--resume needs"),
        (["train", "--seed", "3"], "which experiment"),
        (["train", "--resume", "no/such/run"], "no/such/run"),
        (["evaluate", str(EXPERIMENTS)], "no experiment.json"),
        (["evaluate", FILE], "is a file"),
        (["show", "nothing.py"], "nothing.py"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(words, said, capsys, monkeypatch):
    monkeypatch.chdir(EXPERIMENTS.parent)
    assert main(words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.endswith(": starting")]
    assert len(lines) == 1
    assert said.lower() in lines[0].lower()


@pytest.mark.parametrize("command", ["train", "show", "evaluate", "predict"])
def test_help_at_each_level(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"vision-jax {command}" in capsys.readouterr().out


def test_the_package_and_the_first_help_import_nothing_slow():
    program = (
        "import sys, vision_jax; from vision_jax.cli import main; code = main(['--help']);"
        "slow = {'jax', 'flax', 'numpy', 'tyro', 'matplotlib', 'grain'} & set(sys.modules);"
        "sys.exit(f'imported {slow}' if slow or code else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "vision-jax COMMAND" in done.stdout


def test_the_public_names_come_when_asked_for():
    import vision_jax
    from vision_jax.training import experiment

    assert vision_jax.TrainConfig is experiment.TrainConfig
    assert vision_jax.Experiment is experiment.Experiment
    assert callable(vision_jax.fit)
    assert set(vision_jax.__all__) <= set(dir(vision_jax))
    with pytest.raises(AttributeError, match="fitt"):
        _ = vision_jax.fitt  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is asked on Linux only")
def test_the_program_starts_itself_again_once_for_its_memory():
    code = (
        "import os, sys; from vision_jax.cli import console;"
        "print(os.getpid(), os.environ.get('GLIBC_TUNABLES'), flush=True); sys.exit(console())"
    )

    def lines(environment):
        words = [sys.executable, "-c", code, "--version"]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
        return [line.split() for line in done.stdout.splitlines()]

    plain = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    (pid, before), (same, after), version = lines(plain)
    assert (pid, before, after) == (same, "None", MALLOC)
    assert len(version) == 1
    (_, mine), _ = lines({**plain, "GLIBC_TUNABLES": "glibc.malloc.check=0"})
    assert mine == "glibc.malloc.check=0"
