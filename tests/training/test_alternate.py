"""Players who alternate: each trains its own modules, as if the other's were given."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.training import tiny_gan
from tests.training.runs import assert_same_run, rows
from tests.training.tiny_gan import ADAM, TinyGAN, alternate, experiment, make_points
from vision_jax.cli import main
from vision_jax.training import Alternate, Gradient, fit, load_variables
from vision_jax.training.checkpoints import Checkpoints
from vision_jax.training.parallel import local_devices, shard
from vision_jax.training.players import Players
from vision_jax.training.stages import check_stage, methods, step_count, steps_taken, turns
from vision_jax.training.state import initial_variables
from vision_jax.types import UserError

KEY = jax.random.key(3)
BATCHES = [make_points(np.arange(i, i + 16) * 5) for i in range(4)]
SGD = replace(ADAM, optimizer="sgd", learning_rate=0.1)


def begun(stage, devices=1):
    variables = initial_variables(TinyGAN(), jax.random.key(1), BATCHES[0], methods((stage,), TinyGAN()))
    return Players(stage, TinyGAN(), variables, local_devices(devices), KEY)


def parts(players):
    """By player: everything that is its own, as numpy."""
    variables, resumed = players.states[0].variables, jax.device_get(players.to_resume()["players"])
    return {
        name: jax.device_get([tree[name] for tree in variables.values()] + [resumed[i]])
        for i, name in enumerate(("discriminator", "generator"))
    }


def changed(a, b):
    return [bool(np.any(x != y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]


def test_each_leaves_the_others_parameters_statistics_and_optimizer_alone():
    players = begun(alternate(k=2, train=replace(ADAM, weight_decay=0.1), ema=0.9))
    for done, acting in enumerate(("discriminator", "discriminator", "generator", "discriminator")):
        before = parts(players)
        players.step(done, shard(BATCHES[done], 1))
        after = parts(players)
        other = {"discriminator": "generator", "generator": "discriminator"}[acting]
        assert not any(changed(before[other], after[other]))
        # Parameters, statistics, moments and the count of steps.
        assert all(changed(before[acting], after[acting]))


def test_the_other_player_is_called_in_training_mode():
    """Not with its running statistics; and each step has random numbers of its own."""
    stage = alternate(k=1)
    players = begun(stage)
    found = []
    for done in range(2):
        variables = jax.device_get(players.states[0].variables)
        key = jax.random.fold_in(jax.random.fold_in(KEY, done), 0)
        expected, _ = TinyGAN(axis=None).apply(
            variables, BATCHES[done], method=stage.players[done].objective, rngs={"sample": key},
            mutable=["batch_stats"],
        )  # fmt: skip
        outcome = players.step(done, shard(BATCHES[done], 1))
        assert set(outcome.terms) == set(expected)
        for name, mean in expected.items():
            np.testing.assert_allclose(outcome.terms[name], mean.sum().value(), rtol=1e-5)
        found.append(outcome)
    assert float(found[0].loss) != float(found[1].loss)


def test_eight_devices_take_the_steps_of_one():
    """By the update of a round, with SGD; the points that count are unevenly spread over the devices."""
    batches = [replace(batch, example_valid=np.arange(16) % 7 < 3) for batch in BATCHES]
    results = []
    for devices in (1, 8):
        players = begun(alternate(k=3, train=SGD, ema=0.5), devices)
        start = jax.device_get(players.evaluation_variables)
        for done, batch in enumerate(batches):
            players.step(done, shard(batch, devices))
        results.append(jax.device_get(players.evaluation_variables))
    for before, one, eight in zip(*map(jax.tree.leaves, (start, *results)), strict=True):
        assert np.linalg.norm(one - eight) <= 1e-4 * np.linalg.norm(one - before)
        assert np.any(one != before)


def test_evaluation_uses_the_average_of_a_player_that_keeps_one():
    players = begun(alternate(k=1, ema=0.9))
    for done in range(4):
        players.step(done, shard(BATCHES[done], 1))
    found, raw = players.evaluation_variables, players.states[0].variables
    average = players.states[1].averaged
    for collection in ("params", "batch_stats"):
        assert set(average[collection]) == {"generator"}
        assert not any(changed(found[collection]["generator"], average[collection]["generator"]))
        assert all(changed(found[collection]["generator"], raw[collection]["generator"]))
        assert not any(changed(found[collection]["discriminator"], raw[collection]["discriminator"]))


def test_turns_and_steps_by_hand():
    stage = alternate(k=3, rounds=5)
    assert turns(stage) == (0, 0, 0, 1)
    assert step_count(stage) == 20
    assert [steps_taken(stage, done) for done in (0, 2, 3, 4, 9)] == [(0, 0), (2, 0), (3, 0), (3, 1), (7, 2)]
    assert turns(Gradient(ADAM)) == (0,)
    assert steps_taken(Gradient(ADAM), 7) == (7,)


D, G = alternate(k=2).players


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Alternate((D, G), (2, 2)), "train.steps is 12 for discriminator, 2 a round, and 6 for generator"),
        (
            Alternate(
                (replace(D, train=replace(ADAM, steps=7)), replace(G, train=replace(ADAM, steps=7))), (2, 2)
            ),
            "train.steps is 7 for discriminator, 2 a round, and 7 for discriminator",
        ),
        (Alternate((D, G), (2,)), r"steps is \(2,\); give each of 2 players 1 or more"),
        (Alternate((D, G), (2, 0)), r"steps is \(2, 0\)"),
        (Alternate((), ()), "a name each"),
        (Alternate((D, replace(G, name="discriminator")), (2, 1)), "a name each"),
        (Alternate((D, replace(G, modules=())), (2, 1)), "generator names no modules"),
        (
            Alternate((D, replace(G, train=replace(G.train, eval_every=5))), (2, 1)),
            "train.eval_every is 0 for player discriminator and 5 for generator",
        ),
        (
            Alternate((D, replace(G, train=replace(G.train, accumulate=3))), (2, 1)),
            "16 examples cannot be split evenly over 1 devices x 3 microbatches",
        ),
    ],
)
def test_players_that_do_not_fit_together_are_refused(stage, message):
    check_stage(Alternate((D, G), (2, 1)), 1)
    with pytest.raises(UserError, match=message):
        check_stage(stage, 1)


def test_modules_and_objectives_are_those_of_the_model():
    def with_modules(*modules):
        return begun(Alternate((D, replace(G, modules=modules)), (2, 1)))

    with pytest.raises(UserError, match="'critic'; there are discriminator, generator"):
        with_modules("generator", "critic")
    with pytest.raises(UserError, match="generator/norm is trained by no player"):
        with_modules("hidden1", "hidden2", "out")
    with pytest.raises(UserError, match="both discriminator and generator"):
        with_modules("generator", "discriminator")
    with pytest.raises(UserError, match="TinyGAN has no method 'generate'"):
        methods((Alternate((D, replace(G, objective="generate")), (2, 1)),), TinyGAN())


def test_the_run_has_a_row_of_each_player_and_one_of_each_evaluation(tmp_path):
    train = replace(ADAM, log_every=4, eval_every=5)
    fit(experiment(alternate(k=3, rounds=4, train=train)), tmp_path, devices=1)
    found = rows(tmp_path)
    of = {
        name: [int(row["step"]) for row in found if row[column]]
        for name, column in {
            "d": "train/discriminator/loss", "g": "train/generator/learning_rate", "e": "val/distance",
        }.items()
    }  # fmt: skip
    # The discriminator's steps 4, 8 and 12; the generator's 2 and 4.
    assert of == {"d": [5, 10, 15], "g": [8, 16], "e": [5, 10, 15, 16]}
    assert {"train/discriminator/real", "train/generator/fooled", "train/generator/grad_norm"} < set(found[0])
    log = (tmp_path / "log.txt").read_text()
    assert "step 8/16  generator/loss" in log
    assert (tmp_path / "cost.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3])
def test_a_run_killed_inside_a_round_ends_as_if_it_had_not_been(processes, tmp_path, k):
    stage = alternate(k, rounds=6, train=replace(ADAM, checkpoint_every=5, log_every=4), ema=0.9)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for options, code in (({"kill_at": 5}, -signal.SIGKILL), ({"resume": True}, 0)):
        process = processes(cut, tiny_gan.train, stage=stage, **options)
        process.join(300)
        assert process.exitcode == code
        if code:
            assert Checkpoints(cut / "checkpoints").newest().step == 5
    fit(experiment(stage), whole, devices=1)
    assert_same_run(whole, cut)
    optimizers = [
        Checkpoints(run / "checkpoints").restore_optimizer(step_count(stage), begun(stage).to_resume())
        for run in (whole, cut)
    ]
    assert [int(player["step"]) for player in optimizers[0]["players"]] == [6 * k, 6]
    assert not any(changed(*optimizers))


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3])
def test_it_learns_the_eight_gaussians(tmp_path, k):
    stage = alternate(k, rounds=600, train=replace(ADAM, batch_size=64, eval_every=600 * (k + 1)), ema=0.99)
    before = fit(experiment(alternate(k, rounds=1, train=replace(ADAM, batch_size=64))), tmp_path / "begun")
    report = fit(experiment(stage), tmp_path / "run", devices=1)
    assert report.metrics["distance"] < 0.5 * before.metrics["distance"]
    assert report.metrics["centers"] >= 5
    assert set(load_variables(tmp_path / "run")["params"]) == {"discriminator", "generator"}


def test_players_train_resume_and_sample_by_commands(tmp_path):
    run = str(tmp_path / "run")
    recipe = str(Path(tiny_gan.__file__).with_name("gan_recipe.py"))
    assert main(["train", recipe, "--k", "3", "--rounds", "2", "--out", run, "--devices", "1"]) == 0
    assert main(["train", "--resume", run, "--devices", "1"]) == 0
    assert main(["evaluate", run, "--devices", "1"]) == 0
    assert main(["sample", run, "--count", "5", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "samples.json").read_text())
    assert [answer["sample"] for answer in found] == list(range(5))
    assert len({tuple(answer["point"]) for answer in found}) == 5
