import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.training.experiment import TrainConfig
from vision_jax.training.optimizers import decays, learning_rate, optimizer
from vision_jax.types import UserError


def rates(at, **config):
    rate = learning_rate(TrainConfig(**config))
    return [float(rate(step)) for step in at]


def test_warm_up_is_a_line_through_zero_that_ends_at_the_peak():
    got = rates(range(5), steps=100, learning_rate=0.8, warmup_steps=4, schedule="constant")
    np.testing.assert_allclose(got, [0.2, 0.4, 0.6, 0.8, 0.8], rtol=1e-6)


def test_cosine_falls_from_the_peak_to_zero_after_the_last_step():
    got = rates([9, 10, 20, 30, 40, 50], steps=50, learning_rate=2.0, warmup_steps=10, schedule="cosine")
    half = 2**0.5 / 2
    np.testing.assert_allclose(got, [2, 2, 1 + half, 1, 1 - half, 0], atol=1e-6)


def test_steps_multiply_the_rate_at_each_milestone():
    config = {"steps": 10, "learning_rate": 1.0, "warmup_steps": 0, "schedule": "step"}
    got = rates([0, 4, 5, 7, 8, 9], **config, milestones=(0.5, 0.8), decay=0.1)
    np.testing.assert_allclose(got, [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)


def test_no_warm_up_starts_at_the_peak():
    for schedule in ("cosine", "step", "constant"):
        assert rates([0], steps=10, learning_rate=0.5, warmup_steps=0, schedule=schedule) == [0.5]


@pytest.mark.parametrize(("name", "factor"), [("sgd", 4.0), ("adamw", 2.0), ("rmsprop", 2.0)])
def test_the_rate_follows_the_batch_size(name, factor):
    config = {"learning_rate": 0.01, "warmup_steps": 0, "schedule": "constant", "optimizer": name}
    assert rates([0], **config, batch_size=64, reference_batch=16) == [pytest.approx(0.01 * factor)]
    assert rates([0], **config, batch_size=4, reference_batch=16) == [
        pytest.approx(0.01 / (4 if name == "sgd" else 2))
    ]
    assert rates([0], **config, batch_size=64) == [pytest.approx(0.01)]


PARAMS = {
    "conv": {"kernel": jnp.full((3, 3, 2, 2), 2.0), "bias": jnp.full((2,), 2.0)},
    "norm": {"scale": jnp.full((2,), 2.0), "bias": jnp.full((2,), 2.0)},
    "spread": {"scale": jnp.full((2, 2), 2.0), "bias": jnp.full((2, 2), 2.0)},
    "gain": jnp.float32(2.0),
}


def test_decay_is_for_kernels_alone():
    assert decays(PARAMS) == {
        "conv": {"kernel": True, "bias": False},
        "norm": {"scale": False, "bias": False},
        "spread": {"scale": False, "bias": False},
        "gain": False,
    }


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_with_no_gradient_only_kernels_shrink(name):
    config = TrainConfig(
        optimizer=name, learning_rate=0.1, weight_decay=0.5, warmup_steps=0, schedule="constant", momentum=0.0
    )
    rule = optimizer(config)
    zero = {k: jnp.zeros_like(v) if k == "gain" else {n: jnp.zeros_like(x) for n, x in v.items()}
            for k, v in PARAMS.items()}  # fmt: skip
    updates, _ = rule.update(zero, rule.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.1 * 0.5 * 2.0, rtol=1e-6)
    for room, name in (("conv", "bias"), ("norm", "scale"), ("spread", "scale"), ("spread", "bias")):
        np.testing.assert_array_equal(updates[room][name], 0.0)


def test_steps_of_sgd_by_hand():
    """Decay enters the momentum, the rate comes last: 1 - 0.1 * 1.1, then momentum 0.5 * 1.1 + 1 + 0.0989."""
    config = TrainConfig(
        learning_rate=0.1, momentum=0.5, weight_decay=0.1, warmup_steps=0, schedule="constant", clip_norm=0.0
    )
    rule = optimizer(config)
    params = {"kernel": jnp.ones((1, 1))}
    state = rule.init(params)
    for expected in (1 - 0.1 * 1.1, 0.89 - 0.1 * (0.5 * 1.1 + 1 + 0.1 * 0.89)):
        updates, state = rule.update({"kernel": jnp.ones((1, 1))}, state, params)
        params = {"kernel": params["kernel"] + updates["kernel"]}
        np.testing.assert_allclose(params["kernel"], expected, rtol=1e-6)


def test_steps_of_rmsprop_by_hand():
    """Mean squares 0.2 * 4 and 0.8 * 0.8 + 0.2 * 1; the momentum 0.5 is of what the root has divided."""
    config = TrainConfig(
        optimizer="rmsprop", learning_rate=0.1, momentum=0.5, rms_decay=0.8, rms_epsilon=0.25,
        weight_decay=0.0, warmup_steps=0, schedule="constant", clip_norm=0.0,
    )  # fmt: skip
    rule = optimizer(config)
    params = {"kernel": jnp.zeros((1, 1))}
    state = rule.init(params)
    first = 2 / (0.2 * 4 + 0.25) ** 0.5
    second = 0.5 * first + 1 / (0.8 * 0.8 + 0.2 * 1 + 0.25) ** 0.5
    for gradient, expected in ((2.0, -0.1 * first), (1.0, -0.1 * second)):
        updates, state = rule.update({"kernel": jnp.full((1, 1), gradient)}, state, params)
        np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-6)


def adam(params, gradients, rate, decay, coupled, betas):
    """Kingma and Ba 2015, algorithm 1, in float64."""
    m = v = 0.0
    for t, gradient in enumerate(gradients, 1):
        g = gradient + decay * params if coupled else gradient
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        step = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + 1e-8)
        params = params - rate * (step if coupled else step + decay * params)
    return params


def adadelta(params, gradients, rate, decay, rho, epsilon):
    """Zeiler 2012, algorithm 1, in float64."""
    squared_gradients = squared_updates = 0.0
    for gradient in gradients:
        g = gradient + decay * params
        squared_gradients = rho * squared_gradients + (1 - rho) * g**2
        update = np.sqrt(squared_updates + epsilon) / np.sqrt(squared_gradients + epsilon) * g
        squared_updates = rho * squared_updates + (1 - rho) * update**2
        params = params - rate * update
    return params


def centered_rmsprop(params, gradients, rate, decay, momentum, rho, epsilon):
    """Graves 2013, equations 38 to 41, in float64."""
    n = mean = step = 0.0
    for gradient in gradients:
        g = gradient + decay * params
        n, mean = rho * n + (1 - rho) * g**2, rho * mean + (1 - rho) * g
        step = momentum * step + g / np.sqrt(n - mean**2 + epsilon)
        params = params - rate * step
    return params


@pytest.mark.parametrize(
    ("settings", "definition", "numbers"),
    [
        ({"optimizer": "adam", "betas": (0.5, 0.9)}, adam, {"coupled": True, "betas": (0.5, 0.9)}),
        ({"optimizer": "adamw"}, adam, {"coupled": False, "betas": (0.9, 0.999)}),
        ({"optimizer": "adamw", "betas": (0.0, 0.9)}, adam, {"coupled": False, "betas": (0.0, 0.9)}),
        (
            {"optimizer": "adadelta", "adadelta_rho": 0.8, "adadelta_epsilon": 1e-3},
            adadelta,
            {"rho": 0.8, "epsilon": 1e-3},
        ),
        (
            {
                "optimizer": "rmsprop",
                "rms_centered": True,
                "rms_decay": 0.8,
                "rms_epsilon": 0.1,
                "momentum": 0.6,
            },
            centered_rmsprop,
            {"momentum": 0.6, "rho": 0.8, "epsilon": 0.1},
        ),
    ],
)
def test_twenty_steps_are_those_of_the_definition(settings, definition, numbers):
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=(3, 4)), random.normal(size=(20, 3, 4))
    config = TrainConfig(
        **settings, learning_rate=0.03, weight_decay=0.2, warmup_steps=0, schedule="constant", clip_norm=0.0
    )
    rule = optimizer(config)
    params = {"kernel": jnp.asarray(start, jnp.float32)}
    state = rule.init(params)
    update = jax.jit(rule.update)
    for gradient in gradients:
        updates, state = update({"kernel": jnp.asarray(gradient, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
    expected = definition(start, gradients, 0.03, 0.2, **numbers)
    np.testing.assert_allclose(params["kernel"] - start, expected - start, rtol=1e-4, atol=1e-5)


def test_clipping_is_by_the_norm_of_all_gradients_together():
    config = TrainConfig(
        learning_rate=1.0, momentum=0.0, weight_decay=0.0, warmup_steps=0, schedule="constant", clip_norm=1.0
    )
    rule = optimizer(config)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    updates, _ = rule.update({"a": jnp.array([3.0]), "b": jnp.array([4.0])}, rule.init(params), params)
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], [-0.6, -0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", float("nan")),
        ("warmup_steps", -1),
        ("clip_norm", -1.0),
        ("accumulate", 0),
        ("ema", 1.0),
        ("ema", -0.1),
        ("rms_decay", 1.0),
        ("rms_epsilon", 0.0),
        ("betas", (0.9, 1.0)),
        ("adadelta_rho", 1.0),
        ("adadelta_epsilon", 0.0),
        ("reference_batch", -1),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_name(field, value):
    with pytest.raises(UserError, match=f"train.{field}"):
        optimizer(TrainConfig(**{field: value}))
