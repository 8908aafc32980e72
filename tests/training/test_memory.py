"""What a step is said to need in memory: a line in the number of images, and what makes it less."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.training.tiny_gan import ADAM, TinyGAN, alternate, make_points
from tests.training.tiny_gan import experiment as gan_experiment
from tests.training.tiny_training import DEFAULTS, experiment, make_batch
from vision_jax.training.memory import StepMemory, per_example, step_memory
from vision_jax.training.optimizers import Numbers
from vision_jax.training.state import initialization

SIDE = 64  # pixels: activations make up the memory, not parameters


def planned(images, **changes):
    tiny = experiment(replace(DEFAULTS, **changes))

    def batches(batch_size, seed, workers):
        return iter([make_batch(range(batch_size), SIDE)])

    data = tiny.task.open(None)
    data.train = batches
    return step_memory(tiny, data, images)


@pytest.mark.slow
def test_bytes_grow_in_proportion_to_images():
    few = planned((4, 8))
    (many,) = planned((24,))
    fixed, slope = per_example(few)
    assert fixed + slope * 24 == pytest.approx(many.total, rel=0.05)
    image = SIDE * SIDE
    assert slope > 4 * 2 * 8 * image  # what two convolutions of 8 channels put out is kept in float32
    assert [m.inputs for m in few] == [n * (3 * image + 4 + 4 + 1) for n in (4, 8)]


@pytest.mark.slow
def test_state_is_parameters_statistics_and_what_the_optimizer_keeps():
    kernels = 3 * 3 * 3 * 8 + 3 * 3 * 8 * 8 + 8 + 8 * 3 + 3
    parameters, statistics = kernels + 4 * 8, 2 * 8
    assert planned((4,), optimizer="sgd")[0].state >= 4 * (2 * parameters + statistics)
    more = planned((4,), optimizer="adamw")[0].state - planned((4,), optimizer="sgd")[0].state
    assert 4 * parameters - 16 <= more <= 4 * parameters + 16
    averaged = planned((4,), ema=0.9)[0].state - planned((4,))[0].state
    assert averaged == 4 * (parameters + statistics)


@pytest.mark.slow
def test_accumulation_needs_the_memory_of_a_part():
    whole, parts = planned((16,))[0], planned((16,), accumulate=4)[0]
    assert parts.inputs == whole.inputs
    assert parts.work < 0.5 * whole.work


@pytest.mark.slow
def test_players_need_the_state_of_all_and_the_work_of_one():
    stage = alternate(train=replace(ADAM, optimizer="adam"))
    tiny = gan_experiment(stage)
    (found,) = step_memory(tiny, tiny.task.open(None), [8])
    (sgd,) = step_memory(
        gan_experiment(alternate(train=replace(ADAM, optimizer="sgd"))), tiny.task.open(None), [8]
    )
    model, batch = TinyGAN(), make_points(range(8))
    variables = jax.eval_shape(initialization(model, ("discrimination",)), jax.random.key(0), batch)
    parameters, statistics = (
        sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables[name]))
        for name in ("params", "batch_stats")
    )
    numbers = 4 * len(jax.tree.leaves(Numbers.of(ADAM)))
    # Adam: two moments and a count; both: the schedule's count and the player's own.
    assert found.state == 4 * (3 * parameters + statistics) + 2 * (3 * 4 + numbers)
    assert sgd.state == 4 * (2 * parameters + statistics) + 2 * (2 * 4 + numbers)
    assert 0 < found.work < found.state


def test_the_line_through_two_totals():
    found = [StepMemory(2, 60, 20, 30), StepMemory(4, 60, 40, 110)]
    np.testing.assert_allclose(per_example(found), (10, 50))
