"""Evaluation on any number of devices, with last batches that are not full."""

import jax
import numpy as np
import pytest

from tests.training.tiny_training import DEFAULTS, TinyNet, experiment, make_batch
from vision_jax.training.experiment import Evaluation
from vision_jax.training.parallel import local_devices, replicate
from vision_jax.training.predict import EvaluationLoop, evaluation_batch_size
from vision_jax.training.state import initial_variables


@pytest.fixture(scope="module")
def variables():
    """Of a model that says "light" most of the time."""
    initial = initial_variables(TinyNet(), jax.random.key(3), make_batch([1, 2]))
    head = {**initial["params"]["head"], "bias": np.array([0, 5, 0], np.float32)}
    return {**initial, "params": {**initial["params"], "head": head}}


def evaluated(variables, devices):
    tiny = experiment(DEFAULTS)
    used = local_devices(devices)
    loop = EvaluationLoop(TinyNet(), Evaluation(), tiny.task, used, seed=0)
    batch_size = evaluation_batch_size(tiny, devices)
    return loop(replicate(variables, used), tiny.task.open(None), batch_size)[0].metrics, batch_size


def test_metrics_and_losses_do_not_depend_on_the_number_of_devices(variables):
    """14 images: 8 and 6; 9 and 5, where one device of three has two padding examples; 10 and 4 on five."""
    alone, _ = evaluated(variables, 1)
    assert 0 < alone["accuracy"] < 1
    for devices, expected_size in ((8, 8), (3, 9), (5, 10)):
        metrics, batch_size = evaluated(variables, devices)
        assert batch_size == expected_size
        assert metrics["accuracy"] == alone["accuracy"]
        for name in ("loss", "entropy", "size"):
            np.testing.assert_allclose(metrics[name], alone[name], rtol=1e-6)
