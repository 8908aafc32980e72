"""The commands end to end, on the 8x8 digits, with a network that trains in a second."""

import csv
import inspect
import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.paths import EXPERIMENTS
from vision_jax.cli import MALLOC, main
from vision_jax.cli.experiments import arguments_to_json, defaults_to_json, parse
from vision_jax.cli.origins import find_origin, load_experiment
from vision_jax.cli.train import TrainOptions

RECIPE = "small_cnn"
TINY = ["--widths", "4", "8", "--train.steps", "4", "--train.batch-size", "16", "--train.warmup-steps", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a recipe, trained by the command on one device."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    code = main(["train", RECIPE, *TINY, "--train.eval-every", "2", "--devices", "1", "--out", str(folder)])
    assert code == 0
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with two images of different shapes, one of them a folder deeper, and a broken one."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(folder / "wide.png")
    (folder / "deeper").mkdir()
    Image.fromarray(rng.integers(0, 255, (30, 20), np.uint8)).save(folder / "deeper" / "wide.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    return folder


def test_training_records_its_arguments_with_what_the_data_decided(run):
    record = json.loads((run / "experiment.json").read_text())
    assert record["arguments"]["canvas"] is None
    assert record["arguments"]["widths"] == [4, 8]
    assert record["arguments"]["train"]["steps"] == 4
    assert record["spec"] == {"classes": [str(digit) for digit in range(10)], "canvas": [8, 8]}
    assert (record["recipe"], record["file"]) == ("vision_jax.recipes.small_cnn", None)
    assert record["versions"]["vision_jax"] == version("vision_jax")
    assert not (run / "experiment.py").exists()
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert max(int(row["step"]) for row in rows) == 4
    for name in ("curves.png", "train_batch.png", "predictions.png", "per_class_accuracy.md"):
        assert (run / name).stat().st_size > 0


def test_evaluating_gives_the_figures_that_training_ended_with(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--devices", "1", "--out", str(tmp_path)]) == 0
    trained = json.loads((run / "results.json").read_text())
    evaluated = json.loads((tmp_path / "results.json").read_text())
    assert evaluated["default"]["accuracy"] == trained["default"]["accuracy"]
    np.testing.assert_allclose(evaluated["default"]["loss"], trained["default"]["loss"], rtol=1e-6)
    assert (tmp_path / "predictions.png").exists()
    assert "accuracy" in capsys.readouterr().out


def test_predicting_names_the_bad_image_and_continues(run, images, tmp_path, capsys):
    assert main(["predict", str(run), str(images), "--out", str(tmp_path / "out")]) == 1
    assert "broken.jpg" in capsys.readouterr().err
    answers = json.loads((tmp_path / "out" / "predictions.json").read_text())
    names = {answer["file"] for answer in answers}
    assert names == {str(images / "wide.png"), str(images / "deeper" / "wide.jpg")}
    for answer in answers:
        best = list(answer["best"].values())
        assert best == sorted(best, reverse=True)
        assert answer["category"] == next(iter(answer["best"]))
        assert 0 < sum(best) <= 1.001
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"wide.png", "wide-2.png"}


def test_predicting_images_that_are_not_there_says_so(run, images, tmp_path, capsys):
    assert main(["predict", str(run), str(images / "nothing.jpg"), "--out", str(tmp_path)]) == 2
    assert "nothing.jpg" in capsys.readouterr().err
    assert main(["predict", str(run), str(images / "broken.jpg"), "--out", str(tmp_path)]) == 2
    assert "none of 1" in capsys.readouterr().err


def test_resuming_takes_the_same_arguments_and_refuses_others(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    changed = ["train", RECIPE, *TINY, "--seed", "3", "--train.steps", "9", "--resume", str(copy)]
    assert main(changed) == 2
    message = capsys.readouterr().err
    assert "--seed is 0 in the run, not 3" in message
    assert "--train.steps is 4 in the run, not 9" in message
    assert f"{RECIPE} an argument `init`" in message
    assert f"--init {copy}" in message
    assert main(["train", "--resume", str(copy), "--overfit", "5"]) == 2
    assert "--overfit is 0 in the run, not 5" in capsys.readouterr().err
    assert main(["train", RECIPE, *TINY, "--resume", str(copy), "--devices", "1"]) == 0
    assert len(json.loads((copy / "experiment.json").read_text())["resumed"]) == 1


def test_resuming_with_more_steps_says_how_to_begin_with_the_weights(tmp_path, capsys):
    run = tmp_path / "a run"
    run.mkdir()
    function = load_experiment(find_origin("image_classifier"))
    recorded = {
        **defaults_to_json(function),
        "network": "mobilenet_v2",
        "freeze": ["stem"],
        "init": "old.pth",
    }
    record = {"arguments": recorded, "spec": {"classes": ["a"], "canvas": [8, 8]}, "seed": 0, "overfit": 0}
    record["versions"] = {"vision_jax": version("vision_jax")}

    def write(**where):
        (run / "experiment.json").write_text(json.dumps({**record, **where}))

    write(recipe="vision_jax.recipes.image_classifier")
    word = "image_classifier"

    def suggested(*words):
        assert main(["train", "--resume", str(run), *words]) == 2
        command = shlex.split(capsys.readouterr().err.partition("optimizer and schedule: ")[2])
        assert command[:3] == ["vision-jax", "train", word]
        return parse(function, command[3:], "", TrainOptions())

    arguments, options = suggested("--train.steps", "900", "--seed", "3")
    changed = {"init": str(run), "seed": 3, "train": {**recorded["train"], "steps": 900}}
    assert arguments_to_json(arguments) == {**recorded, **changed}
    assert options == TrainOptions()
    arguments, options = suggested("--init", "other.pth", "--overfit", "8", "--out", "new")
    assert arguments_to_json(arguments) == {**recorded, "init": "other.pth"}
    assert options == TrainOptions(overfit=8, out=Path("new"))
    # Of a file's run the copy is the only one that is left, where the file is gone.
    word = str(run / "experiment.py")
    shutil.copy(inspect.getsourcefile(function), word)
    write(file=str(tmp_path / "gone.py"))
    assert suggested("--train.steps", "900")[0]["init"] == str(run)


def test_a_file_is_copied_into_its_run_and_may_have_gone_afterwards(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.py"
    shutil.copy(inspect.getsourcefile(load_experiment(find_origin(RECIPE))), file)
    assert main(["train", "mine.py", *TINY, "--devices", "1"]) == 0
    run = tmp_path / "runs" / "mine"
    assert (run / "experiment.py").read_text() == file.read_text()
    record = json.loads((run / "experiment.json").read_text())
    assert (record["recipe"], record["file"]) == (None, "mine.py")
    file.write_text(file.read_text() + "# changed\n")
    assert main(["train", "mine.py", *TINY, "--resume", str(run), "--devices", "1"]) == 0
    assert (
        f"mine.py is not, or no longer, what {Path(*run.parts)} was started with" in capsys.readouterr().err
    )
    file.unlink()
    assert main(["evaluate", str(run), "--devices", "1"]) == 0


def rewritten(run, folder, **changes):
    """A copy of a run whose experiment.json says something else."""
    shutil.copytree(run, folder)
    record = {**json.loads((folder / "experiment.json").read_text()), **changes}
    (folder / "experiment.json").write_text(json.dumps(record))
    return folder


def test_a_run_of_another_version_is_opened_or_refused_with_that_version(run, tmp_path, capsys):
    older = {"vision_jax": "0.0.9"}
    opened = rewritten(run, tmp_path / "opened", versions=older)
    assert main(["evaluate", str(opened), "--devices", "1"]) == 0
    gone = rewritten(run, tmp_path / "gone", versions=older, recipe="vision_jax.recipes.gone")
    took = json.loads((run / "experiment.json").read_text())["arguments"]
    other = rewritten(run, tmp_path / "other", versions=older, arguments={**took, "depth": 3})
    file = rewritten(run, tmp_path / "file", versions=older, recipe=None, file="old.py")
    (file / "experiment.py").write_text("from vision_jax.data.augment import Augment\n")
    for folder, why in ((gone, "recipes.gone"), (other, "`depth`"), (file, "vision_jax.data.augment")):
        capsys.readouterr()
        assert main(["evaluate", str(folder)]) == 2
        message = capsys.readouterr().err
        assert f"{folder} was written by vision_jax 0.0.9, and this is {version('vision_jax')}" in message
        assert why in message
        assert "install the version that wrote it" in message
        assert (f"bring {folder / 'experiment.py'} up to date" in message) == (folder == file)


def test_a_record_names_only_recipes_of_the_package(run, tmp_path, capsys):
    folder = rewritten(run, tmp_path / "run", recipe="subprocess.run")
    assert main(["evaluate", str(folder)]) == 2
    assert "there is no recipe subprocess.run" in capsys.readouterr().err


def test_a_model_that_samples_nothing_says_what_to_use(run, capsys):
    assert main(["sample", str(run)]) == 2
    assert "ClassificationTask predicts from inputs: use `vision-jax predict`" in capsys.readouterr().err


def test_other_data_with_unknown_classes_are_refused(run, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).save(tmp_path / split / name / "a.png")
    assert main(["evaluate", str(run), "--data", f"folder:{tmp_path}", "--devices", "1"]) == 2
    assert "cat" in capsys.readouterr().err


def test_showing_memory_prints_a_line_in_the_number_of_images(capsys):
    assert main(["show", RECIPE, *TINY, "--memory", "16", "8"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| 8", "| 16"]
    assert main(["show", RECIPE, *TINY, "--memory", "8", "8"]) == 2
    assert "two different numbers" in capsys.readouterr().err


def test_showing_writes_a_picture_and_counts(tmp_path, capsys):
    assert main(["show", RECIPE, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "train/images" in shown
    assert "1437" in shown
    assert Image.open(tmp_path / "data.png").width > 100
    assert "| all | 1437 | 360 |" in (tmp_path / "classes.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "did you mean `train`"),
        (["train", "small_cmn"], "did you mean small_cnn?"),
        (["train", "mask-rcnn"], "did you mean mask_rcnn?"),
        (["train", "anything"], "recipes: colocalizer, digit_addition, faster_rcnn"),
        (["train", "fcn_skip"], "did you mean experiments/segmentation/fcn_skips?"),
        (["train", "experiments/detection"], "experiments/detection/proposals"),
        (["train", RECIPE, "--data", "digit"], "digits"),
        (["train", RECIPE, "--overfit", "-1"], "--overfit"),
        (["train", RECIPE, "--devices", "0"], "--devices"),
        (["train", RECIPE, "--canvas", "8", "16"], "long side first"),
        (["train", "--resume"], "--resume needs"),
        (["train", "--seed", "3"], "which experiment"),
        (["train", "--resume", "no/such/run"], "no/such/run"),
        (["evaluate", str(EXPERIMENTS)], "no experiment.json"),
        (["evaluate", "README.md"], "is a file"),
        (["report"], "--index"),
        (["report", "--index", "docs"], "holds no result"),
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
