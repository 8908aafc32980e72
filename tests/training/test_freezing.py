import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.tiny_training import TinyNet, make_batch
from vision_jax.layers import Norm
from vision_jax.training.experiment import TrainConfig
from vision_jax.training.freezing import check_freeze, frozen_in_eval_mode
from vision_jax.training.parallel import data_parallel, local_devices, replicate, shard
from vision_jax.training.state import initial_variables
from vision_jax.training.step import configured_state, configured_step
from vision_jax.types import UserError

CONFIG = TrainConfig(
    steps=9, learning_rate=0.1, warmup_steps=0, schedule="constant", clip_norm=0.0, weight_decay=0.1
)


def trained(freeze, model=None, accumulate=1):
    model = model or TinyNet()
    used = local_devices(2)
    batch = make_batch(np.arange(16))
    variables = jax.device_get(
        initial_variables(model, jax.random.key(1), jax.tree.map(lambda x: x[:4], batch))
    )
    config = TrainConfig(**{**vars(CONFIG), "accumulate": accumulate, "ema": 0.9})
    state = replicate(configured_state(jax.tree.map(jnp.asarray, variables), config), used)
    step = data_parallel(configured_step(model, config, freeze), used)
    for _ in range(3):
        state, metrics = step(state, shard(batch, 2), jax.random.key(2))
    return variables, jax.device_get(state), jax.device_get(metrics)


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_frozen_parts_are_bit_identical_and_called_as_in_evaluation(accumulate):
    before, state, metrics = trained(("conv1", "norm1"), accumulate=accumulate)
    for part in ("conv1", "norm1"):
        jax.tree.map(np.testing.assert_array_equal, state.params[part], before["params"][part])
        average = state.averaged["params"][part]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), average, before["params"][part]
        )
    jax.tree.map(np.testing.assert_array_equal, state.collections, {"batch_stats": before["batch_stats"]})
    for part in ("conv2", "norm2", "head"):
        moved = jax.tree.map(lambda a, b: np.any(a != b), state.params[part], before["params"][part])
        assert all(jax.tree.leaves(moved)), part
    always_frozen = trained(("conv1", "norm1"), TinyNet(frozen=True), accumulate)[2]
    np.testing.assert_allclose(metrics.loss, always_frozen.loss, rtol=1e-6)
    np.testing.assert_allclose(metrics.grad_norm, always_frozen.grad_norm, rtol=1e-5)


def test_mistakes_name_the_parts():
    backbone = {"stem_conv": {"kernel": 0}, "stage1_block1": {"conv": {"kernel": 0}}}
    params = {"backbone": backbone, "rpn": {"bias": 0}}
    check_freeze(params, ("stem", "stage1"))
    with pytest.raises(UserError, match="is called 'stage7'; there are backbone, stage1, stem, rpn"):
        check_freeze(params, ("stem", "stage7"))
    with pytest.raises(UserError, match="backbone, rpn are all of the model"):
        check_freeze(params, ("backbone", "rpn"))


@pytest.mark.parametrize("how", ["by position", "by name", "by default"])
def test_a_frozen_norm_uses_its_running_statistics(how):
    x = jnp.asarray(np.random.default_rng(0).normal(3, 2, (2, 4, 4, 3)), jnp.float32)

    class Net(TinyNet):
        def __call__(self, x, train=True):
            if how == "by position":
                return self.inner(x, train)
            return self.inner(x, train=train) if how == "by name" else self.inner(x)

        def setup(self):
            self.inner = Norm("batch")

    net = Net()
    variables = net.init(jax.random.key(0), x)
    expected = net.apply(variables, x, False)
    with frozen_in_eval_mode(("inner",)):
        frozen, changed = net.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_array_equal(frozen, expected)
    jax.tree.map(np.testing.assert_array_equal, changed, {"batch_stats": variables["batch_stats"]})
    free, _ = net.apply(variables, x, mutable=["batch_stats"])
    assert np.any(free != expected) == (how != "by default")
