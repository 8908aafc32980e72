import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.training.experiment import TrainConfig
from vision_jax.training.optimizers import optimizer

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adadelta"])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_ten_steps_are_torchs(name, clip):
    random = np.random.default_rng(0)
    start = random.normal(size=(4, 3)).astype(np.float32)
    gradients = random.normal(size=(10, 4, 3)).astype(np.float32)
    config = TrainConfig(
        optimizer=name,
        learning_rate=0.05,
        weight_decay=0.1,
        warmup_steps=0,
        schedule="constant",
        clip_norm=clip,
        betas=(0.5, 0.9),
    )
    rule = optimizer(config)
    params = {"kernel": jnp.asarray(start)}
    state = rule.init(params)
    theirs = torch.nn.Parameter(torch.tensor(start))
    if name == "sgd":
        peer = torch.optim.SGD([theirs], lr=0.05, momentum=0.9, weight_decay=0.1)
    elif name == "adadelta":
        peer = torch.optim.Adadelta([theirs], lr=0.05, rho=0.95, eps=1e-6, weight_decay=0.1)
    else:
        rule_of_torch = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        peer = rule_of_torch([theirs], lr=0.05, betas=(0.5, 0.9), weight_decay=0.1)
    update = jax.jit(rule.update)
    for gradient in gradients:
        updates, state = update({"kernel": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        theirs.grad = torch.tensor(gradient)
        if clip:
            torch.nn.utils.clip_grad_norm_([theirs], clip)
        peer.step()
        np.testing.assert_allclose(params["kernel"], theirs.detach().numpy(), rtol=1e-4, atol=1e-5)
