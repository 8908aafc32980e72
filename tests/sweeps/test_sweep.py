"""Sweeps as a user runs them: real processes, real training, killed and broken on purpose."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from vision_jax.cli import main
from vision_jax.sweeps.folder import SweepFolder
from vision_jax.training.parallel import cores

pytestmark = pytest.mark.slow

ONE_THREAD = ("--threads", "1")
BATCH, GROUP = "norm=batch,seed=0", "norm=group,seed=0"


def table(folder):
    """table.csv without its times."""
    with (folder / "table.csv").open() as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


def wait_until(true, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_in(folder):
    """Processes whose command line names the folder."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and "train" in line]


def sweep(start, folder, *words):
    """`vision-jax sweep tiny.py WORDS` to its end: the exit code and what was printed."""
    return start(folder, "sweep", "tiny.py", "--out", folder / "sweep", *ONE_THREAD, *words).end()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, start):
    """A sweep by one worker, never disturbed: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    code, output = sweep(start, folder)
    assert code == 0, output
    return folder / "sweep", output


def test_the_table_says_what_was_measured(whole):
    folder, output = whole
    rows = table(folder)
    assert [(row["norm"], row["seed"], row["evaluation"]) for row in rows] == [
        ("batch", "0", "default"),
        ("batch", "0", "again=1"),
        ("group", "0", "default"),
        ("group", "0", "again=1"),
    ]
    for row in rows:
        results = json.loads((folder / row["trial"] / "results.json").read_text())
        assert float(row["accuracy"]) == results[row["evaluation"]]["accuracy"]
        assert float(row["step/flops"]) > 0
    assert rows[0]["accuracy"] == rows[1]["accuracy"]
    text = (folder / "table.md").read_text()
    assert text.strip() in output
    assert "0.250" in text  # the paper's
    assert "group is better" in text
    for name in ("figure.png", "images.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_killed_halfway_it_ends_with_the_same_table_and_repeats_nothing(whole, start, tmp_path):
    folder = tmp_path / "sweep"
    shutil.copytree(whole[0], folder)
    shutil.rmtree(folder / GROUP)
    begun = start(tmp_path, "sweep", "tiny.py", "--out", folder, *ONE_THREAD)
    wait_until(lambda: (folder / GROUP / "metrics.csv").exists(), begun.process)
    code, _ = begun.end(signal.SIGKILL)
    assert code == -signal.SIGKILL
    finished = (folder / BATCH / "results.json").stat().st_mtime_ns
    assert not (folder / GROUP / "results.json").exists()
    code, output = sweep(start, tmp_path)  # waits for the orphan, which ends by itself
    assert code == 0, output
    assert f"{GROUP}: running" in output
    assert f"{BATCH}: running" not in output
    assert (folder / BATCH / "results.json").stat().st_mtime_ns == finished
    assert table(folder) == table(whole[0])
    assert not processes_in(folder)


def test_interrupted_it_stops_its_trials_and_two_workers_give_the_same_table(whole, start, tmp_path):
    folder = tmp_path / "sweep"
    words = (
        "sweep",
        "tiny.py",
        "--out",
        folder,
        *(("--workers", "2") if len(cores()) > 1 else ()),
        *ONE_THREAD,
    )
    begun = start(tmp_path, *words)
    wait_until(lambda: (folder / BATCH / "metrics.csv").exists(), begun.process)
    code, output = begun.end(signal.SIGINT)
    assert code == 130, output
    assert "save their state" in output
    assert not processes_in(folder)
    code, output = start(tmp_path, *words).end()
    assert code == 0, output
    assert table(folder) == table(whole[0])


def test_a_trial_that_fails_is_named_and_does_not_stop_the_rest(whole, start, tmp_path, capsys):
    folder = tmp_path / "sweep"
    shutil.copytree(whole[0], folder)
    failed = [f"norm=batch,seed={seed},fail=True" for seed in (0, 1)]
    words = ("--vary", "norm=batch", "--vary", "seed=0,1", "--vary", "fail=True")
    code, output = sweep(start, tmp_path, *words)
    assert code == 1, output
    for name in failed:
        assert f"{name}: running" in output
        assert "broken on purpose" in (folder / "failed" / f"{name}.txt").read_text()
    assert main(["report", str(folder)]) == 0
    text = capsys.readouterr().out
    assert len(table(folder)) == 4  # what was done before
    assert f"- {failed[1]}: ValueError: broken on purpose" in text
    # They are not tried again unasked; asked, and with the fault mended, one runs.
    assert in_process(tmp_path, *words) == 1
    assert "running" not in capsys.readouterr().out
    file = tmp_path / "tiny.py"
    file.write_text(file.read_text().replace("if fail:", "if False:"))
    words = ("--vary", "norm=batch", "--vary", "seed=1", "--vary", "fail=True", "--retry-failed")
    code, output = sweep(start, tmp_path, *words)
    assert code == 0, output
    assert len(table(folder)) == 6
    assert "2 versions of the experiment file" in output


def test_a_recipe_is_swept_without_a_file(start, tmp_path):
    few = ("--widths", "4", "--train.steps", "2", "--train.batch-size", "16")
    code, output = start(tmp_path, "sweep", "small_cnn", *few, "--vary", "seed=3", *ONE_THREAD).end()
    assert code == 0, output
    folder = tmp_path / "runs" / "small_cnn"
    assert json.loads((folder / "sweep.json").read_text())["recipe"] == "vision_jax.recipes.small_cnn"
    assert not list(folder.glob("**/experiment.py"))
    assert main(["report", str(folder)]) == 0
    assert (folder / "table.md").read_text().startswith("# small_cnn")


def in_process(tmp_path, *words):
    """The command in this process, for what ends before any trial starts."""
    return main(["sweep", str(tmp_path / "tiny.py"), "--out", str(tmp_path / "sweep"), *words])


@pytest.fixture
def tiny(start, tmp_path):
    """A folder with the experiment file."""
    start(tmp_path, "--version").end()
    return tmp_path


def test_a_second_sweep_says_that_the_folder_is_taken(tiny, capsys):
    with SweepFolder(tiny / "sweep").locked(print):
        assert in_process(tiny) == 2
    assert f"another sweep (process {os.getpid()}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--vary", "nrom=batch"), "has no nrom; it has norm, widths"),
        (("--vary", "seed"), "write NAME=V1,V2"),
        (("--norm", "group"), "--norm is what the sweep varies"),
        (("--vary", "fail=True,False", "--no-fail"), "--fail is what the sweep varies"),
        (("--workers", "0"), "--workers 0"),
        (("--vary", "train.steps=24,0"), "--train.steps 0: give 1 or more"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(tiny, capsys, words, said):
    assert in_process(tiny, *words) == 2
    assert said in capsys.readouterr().err
    assert not (tiny / "sweep").exists()


def test_a_dry_run_prints_commands_that_repeat_each_trial(tiny, capsys):
    assert in_process(tiny, "--dry-run", "--train.steps", "7", "--vary", "widths=4 8,16") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    printed = [" ".join(words[3 : words.index("--out")]) for words in lines if words[0] == "vision-jax"]
    assert printed == [
        "--widths 4 8 --train.steps 7",
        "--widths 16 --train.steps 7",
        "--norm group --widths 4 8 --train.steps 7",
        "--norm group --widths 16 --train.steps 7",
    ]
    assert not (tiny / "sweep").exists()


def test_other_arguments_under_a_trials_name_are_refused(whole, tiny, capsys):
    assert main(["sweep", str(tiny / "tiny.py"), "--out", str(whole[0]), "--train.steps", "9"]) == 2
    assert "--train.steps is 24 in the run, not 9" in capsys.readouterr().err


def test_a_full_and_a_read_only_disk_leave_finished_trials_as_they_are(whole, start, tmp_path, capsys):
    """On a file system that really has no room, and then takes nothing."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        subprocess.run(["cp", "-r", str(whole[0]), str(disk / "sweep")], check=True)
        subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'full'}"], capture_output=True, check=False)
        code, output = start(
            tmp_path, "sweep", "tiny.py", "--out", disk / "sweep", "--vary", "seed=0,1"
        ).end()
        assert code == 2, output
        assert "No space left on device" in output
        (disk / "full").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert in_process(tmp_path, "--out", str(disk / "sweep"), "--vary", "seed=0,1") == 2
        assert "Read-only file system" in capsys.readouterr().err
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert main(["report", str(disk / "sweep")]) == 0
        assert table(disk / "sweep") == table(whole[0])
    finally:
        subprocess.run(["umount", str(disk)], check=True)
