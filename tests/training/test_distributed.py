"""Real processes on this machine, two devices each: one run, one update, and one end."""

import dataclasses
import json
import os
import signal
import socket
import time

import jax
import numpy as np
import pytest

from tests.training.runs import assert_same_run, assert_same_variables, rows
from tests.training.tiny_training import DEFAULTS, Stream, experiment
from vision_jax.training import fit, load_variables
from vision_jax.training.checkpoints import Checkpoints
from vision_jax.training.distributed import WAIT_SECONDS, _Shard, joined, launched_by
from vision_jax.types import UserError

SHORT = dataclasses.replace(
    DEFAULTS, steps=8, batch_size=8, eval_every=4, checkpoint_every=3, log_every=2, clip_norm=0.0, ema=0.9
)
SECONDS = 120  # for what takes 10 on a machine with nothing else to do


def start(processes, run, more=({}, {}), **options):
    """Two processes of one run; `more` are options of each, `target` replaces the tiny training."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    if "target" not in options:
        options["train"] = SHORT
    return [processes(run, one_of=(address, 2, rank), **more[rank], **options) for rank in range(2)]


def finish(started):
    """Their exit codes; none may hang."""
    for process in started:
        process.join(SECONDS)
        assert process.exitcode is not None, "a process waits for one that has ended"
    return [process.exitcode for process in started]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, processes):
    """An uninterrupted run of two processes."""
    run = tmp_path_factory.mktemp("distributed") / "whole"
    assert finish(start(processes, run)) == [0, 0], run.with_suffix(".0.log").read_text()
    return run


@pytest.mark.slow
def test_two_processes_with_two_devices_make_the_run_of_one_with_four(whole, tmp_path):
    """Batch norm, uneven weights, an average, evaluations with a partial batch: all but rounding is equal."""
    alone = tmp_path / "alone"
    fit(experiment(SHORT), alone, devices=4)
    ours, theirs = load_variables(whole), load_variables(alone)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b)
    for mine, other in zip(rows(whole), rows(alone), strict=True):
        assert mine.keys() == other.keys()
        for name in mine:
            if mine[name] or other[name]:
                np.testing.assert_allclose(float(mine[name]), float(other[name]), rtol=1e-3, err_msg=name)
    a, b = (Checkpoints(run / "checkpoints").newest() for run in (whole, alone))
    assert a.iterator == b.iterator == {"position": 64}
    assert (a.step, a.best, a.best_step) == (b.step, b.best, b.best_step)


@pytest.mark.slow
def test_the_first_process_writes_and_the_other_keeps_a_log(whole):
    assert "step 8/8" in (whole / "log.txt").read_text()
    assert "4 x cpu of 2 processes" in (whole / "log.txt").read_text()
    assert "step 8/8" in (whole / "log.1.txt").read_text()
    assert "step 8/8" not in whole.with_suffix(".1.log").read_text()
    assert len(json.loads((whole / "experiment.json").read_text())["devices"]) == 4
    assert len(list((whole / "tensorboard").iterdir())) == 1
    assert (whole / "predictions.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_the_other_stops_and_both_resume_to_the_same_bits(
    whole, processes, tmp_path, victim
):
    run = tmp_path / "run"
    more = [{}, {}]
    more[victim] = {"kill_at": 3}
    began = time.perf_counter()
    codes = finish(start(processes, run, more))
    assert time.perf_counter() - began < SECONDS
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] not in (0, -signal.SIGKILL)
    said = run.with_suffix(f".{1 - victim}.log").read_text()
    error = run.with_suffix(".error")
    said += error.read_text() if error.exists() else ""
    assert "another process of this run has ended" in said or "another task died" in said
    assert finish(start(processes, run, resume=True)) == [0, 0]
    assert_same_run(whole, run)


@pytest.mark.slow
def test_sigterm_to_one_stops_both_after_the_same_step(whole, processes, tmp_path):
    run = tmp_path / "run"
    started = start(processes, run, delay=0.2)
    while not (run / "metrics.csv").exists() and all(process.is_alive() for process in started):
        time.sleep(0.05)
    os.kill(started[1].pid, signal.SIGTERM)
    assert finish(started) == [143, 143]
    step = Checkpoints(run / "checkpoints").newest().step
    for log in ("log.txt", "log.1.txt"):
        assert f"the state of step {step} is saved" in (run / log).read_text()
    assert finish(start(processes, run, resume=True)) == [0, 0]
    assert_same_variables(whole, run)


@pytest.mark.slow
def test_others_wait_for_a_fit_longer_than_for_one_look_at_the_store(processes, tmp_path):
    run = tmp_path / "run"
    assert finish(start(processes, run, fit_seconds=WAIT_SECONDS + 2.0)) == [0, 0]
    assert "step 8/8" in (run / "log.1.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_during_a_fit_the_other_ends(processes, tmp_path, victim):
    run = tmp_path / "run"
    started = start(processes, run, fit_seconds=600.0)
    log = run / "log.1.txt"
    while not log.exists() or "stage sleep" not in log.read_text():
        time.sleep(0.1)
        assert all(process.is_alive() for process in started)
    started[victim].kill()
    codes = finish(started)
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] not in (0, -signal.SIGKILL)


@pytest.mark.slow
def test_an_error_of_the_first_is_told_by_both(whole, processes, tmp_path):
    before = (whole / "metrics.csv").read_bytes()
    assert finish(start(processes, whole)) == [2, 2]
    assert "holds a run already" in whole.with_suffix(".error").read_text()
    assert (whole / "metrics.csv").read_bytes() == before


def test_a_reader_without_shards_is_cut_and_keeps_its_position():
    whole = Stream(np.arange(24), 8, seed=0)
    parts = [_Shard(Stream(np.arange(24), 8, seed=0), index, 2) for index in range(2)]
    for _ in range(4):
        batch = next(whole)
        for index, part in enumerate(parts):
            np.testing.assert_array_equal(next(part).id, batch.id[index::2])
    assert parts[1].get_state() == whole.get_state()


def test_the_environment_tells_who_launched(monkeypatch):
    names = ("SLURM_NTASKS", "SLURM_STEP_NODELIST", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES")
    for name in (*names, "MEGASCALE_COORDINATOR_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert launched_by() is None
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert launched_by() is None  # inside an allocation, but not started by srun
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-4]")
    assert launched_by() == "Slurm"
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert launched_by() is None
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert launched_by() == "Open MPI"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((None, 2, None), "go with --distributed"),
        (("localhost", 2, 0), "give HOST:PORT"),
        (("localhost:1234", 2, None), "needs --processes N and --process I"),
        (("localhost:1234", 2, 2), "not 2 and 2"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments, said):
    with pytest.raises(UserError, match=said), joined(*arguments):
        pass
