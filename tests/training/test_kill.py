"""Real processes, killed and taken up again.

VISION_JAX_KILLS=20 pytest -m slow tests/training/test_kill.py     # 20 random moments instead of 3

A failure says the seed of its moments; VISION_JAX_KILL_SEED=SEED takes them again.
"""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.training.runs import assert_same_run, assert_same_variables
from tests.training.tiny_training import DEFAULTS
from vision_jax.training.checkpoints import Checkpoints

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("VISION_JAX_KILLS", "3"))
SEED = os.environ.get("VISION_JAX_KILL_SEED", str(time.time_ns()))
SLOW = {
    "train": dataclasses.replace(DEFAULTS, steps=30, eval_every=7, checkpoint_every=3),
    "delay": 0.02,
    "evaluation_delay": 0.05,
}


def finish(process):
    process.join(300)
    return process.exitcode


@pytest.fixture(scope="module")
def whole(tmp_path_factory, processes):
    """An uninterrupted run, and how long it took with everything compiled."""
    folder = tmp_path_factory.mktemp("whole")
    assert finish(processes(folder / "first", **SLOW)) == 0
    began = time.perf_counter()
    assert finish(processes(folder / "second", **SLOW)) == 0
    return folder / "first", folder / "second", time.perf_counter() - began


def test_two_processes_with_one_seed_have_the_same_bits(whole):
    assert_same_run(whole[0], whole[1])


@pytest.mark.parametrize("moment", range(KILLS))
def test_a_run_killed_at_a_random_moment_ends_as_if_it_had_not_been(whole, processes, tmp_path, moment):
    first, _, seconds = whole
    run = tmp_path / "run"
    wait = random.Random(f"{moment} {SEED}").uniform(0, seconds)
    print(f"killed after {wait:.2f} s, moment {moment} of VISION_JAX_KILL_SEED={SEED}")
    process = processes(run, **SLOW)
    process.join(wait)
    process.kill()
    assert finish(process) in (-signal.SIGKILL, 0)
    begun = (run / "experiment.json").exists()
    assert finish(processes(run, resume=begun, **SLOW)) == 0
    newest = Checkpoints(run / "checkpoints").newest()
    assert newest.step == 30
    assert_same_run(first, run)


def test_sigterm_saves_then_exits(whole, processes, tmp_path):
    run = tmp_path / "run"
    slow = {
        **SLOW,
        "train": dataclasses.replace(SLOW["train"], eval_every=0, checkpoint_every=0),
        "delay": 0.1,
    }
    process = processes(run, **slow)
    while not (run / "metrics.csv").exists() and process.is_alive():
        time.sleep(0.02)
    process.terminate()
    assert finish(process) == 143
    saved = Checkpoints(run / "checkpoints").newest()
    assert 4 <= saved.step < 30
    assert (
        f"the state of step {saved.step} is saved; continue with --resume {run}"
        in (run / "log.txt").read_text()
    )
    # What is left is done with the evaluations of the uninterrupted run: only those after the stop differ.
    assert finish(processes(run, resume=True, **SLOW)) == 0
    assert_same_variables(whole[0], run)


@pytest.mark.parametrize("obstacle", ["full disk", "file size limit"])
def test_a_disk_that_takes_no_more_ends_the_run_with_a_message(whole, processes, tmp_path, obstacle):
    """The disk is really full, or a file really may not grow; with room, the run resumes bit-identically."""
    run = tmp_path / "disk" / "run"
    run.parent.mkdir()
    options = dict(SLOW)
    if obstacle == "full disk":
        mount = ["mount", "-t", "tmpfs", "-o", "size=272k", "tmpfs", str(run.parent)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("needs the right to mount a tmpfs")
    else:
        options["largest_file"] = 1500  # more than the record of the start, less than the metrics
    try:
        assert finish(processes(run, **options)) == 2
        message = run.with_suffix(".error").read_text()
        reason = "No space left on device" if obstacle == "full disk" else "File too large"
        assert reason in message
        assert str(run) in message
        if obstacle == "full disk":
            subprocess.run(["mount", "-o", "remount,size=8m", str(run.parent)], check=True)
        assert json.loads((run / "experiment.json").read_text())["seed"] == 0
        assert finish(processes(run, resume=True, **SLOW)) == 0
        assert_same_run(whole[0], run)
    finally:
        if obstacle == "full disk":
            subprocess.run(["umount", str(run.parent)], check=True)
        shutil.rmtree(run.parent, ignore_errors=True)
