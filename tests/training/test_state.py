"""Where training starts: the variables of every method that a model is trained or used by."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from tests.systems import DETECTION
from tests.training.test_step import uneven_batch
from tests.training.tiny_training import TinyNet
from vision_jax.training.state import check_fits, initial_variables
from vision_jax.types import UserError


def test_initial_variables_are_those_of_a_plain_initialization():
    batch = uneven_batch(4)
    keys = dict(zip(("params", "sample"), jax.random.split(jax.random.key(1)), strict=True))
    plain = jax.jit(lambda: TinyNet().init(keys, batch, method="loss"))()
    ours = initial_variables(TinyNet(), jax.random.key(1), batch)
    assert jax.tree.structure(plain) == jax.tree.structure(ours)
    for expected, leaf in zip(jax.tree.leaves(plain), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(expected, leaf, rtol=1e-5, atol=1e-7)


class Branches(nn.Module):
    """A parameter of its own for each branch."""

    @nn.compact
    def __call__(self, x, branch):
        return x @ self.param(branch, nn.initializers.normal(), (4, 4))


class Several(nn.Module):
    """Parameters that one method alone uses."""

    def setup(self):
        self.branches, self.first, self.last = Branches(), nn.Dense(4), nn.Dense(4)

    def energy(self, batch, train=True):
        return self.first(batch["x"])

    def loss(self, batch, train=True):
        return self.branches(self.first(batch["x"]), "loss")

    def predict(self, batch):
        return self.last(self.branches(self.first(batch["x"]), "predict"))


def test_each_method_initializes_what_it_uses_and_keeps_what_others_have():
    batch = {"x": np.ones((2, 4), np.float32)}
    alone = initial_variables(Several(), jax.random.key(1), batch)
    both = initial_variables(Several(), jax.random.key(1), batch, ("loss", "predict"))
    other = initial_variables(Several(), jax.random.key(1), batch, ("energy", "loss", "predict"))
    assert jax.tree.structure(other) == jax.tree.structure(both)
    assert set(alone["params"]) == {"branches", "first"}
    assert set(both["params"]) == {"branches", "first", "last"}
    np.testing.assert_array_equal(alone["params"]["branches"]["loss"], both["params"]["branches"]["loss"])
    np.testing.assert_array_equal(alone["params"]["first"]["kernel"], both["params"]["first"]["kernel"])
    assert np.any(both["params"]["branches"]["loss"] != both["params"]["branches"]["predict"])
    check_fits(Several(), both, batch, "checkpoint 3", ("loss", "predict"))
    with pytest.raises(UserError, match=r"params/branches/predict is float32\[4, 4\] in the .* and missing"):
        check_fits(Several(), both, batch, "checkpoint 3")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn_pyramid", "mask_rcnn_c4"])
def test_predictions_add_nothing_to_the_parameters_of_a_detector(name):
    system = DETECTION[name]
    model, batch = system.model(), system.batch(2)
    alone = initial_variables(model, jax.random.key(1), batch)
    both = initial_variables(model, jax.random.key(1), batch, ("loss", "predict"))
    assert jax.tree.structure(alone) == jax.tree.structure(both)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(both), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_checkpoint_of_another_model_is_refused_by_name():
    batch = uneven_batch(4)
    variables = initial_variables(TinyNet(), jax.random.key(1), batch)
    check_fits(TinyNet(), variables, batch, "checkpoint 3")
    with pytest.raises(UserError, match=r"checkpoint 3 .*params/head/bias is float32\[3\].*float32\[4\]"):
        check_fits(TinyNet(num_classes=4), variables, batch, "checkpoint 3")
