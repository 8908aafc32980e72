"""Evaluation on any number of devices, with last batches that are not full."""

import jax
import numpy as np
import pytest

from tests.training.tiny_training import DEFAULTS, TinyNet, experiment, make_batch
from vision_jax.training.experiment import Evaluation
from vision_jax.training.parallel import local_devices, replicate
from vision_jax.training.predict import EvaluationLoop, evaluation_batch_size
from vision_jax.training.state import initial_variables
from vision_jax.types import UserError


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


@pytest.mark.parametrize(
    ("evaluation", "names"),
    [
        (Evaluation(), {"loss", "entropy", "size", "accuracy", "undefined"}),
        (Evaluation(loss=False), {"accuracy", "undefined"}),
        (Evaluation(predict=False), {"loss", "entropy", "size"}),
    ],
)
def test_an_evaluation_computes_what_it_is_asked_for(variables, evaluation, names):
    tiny, used = experiment(DEFAULTS), local_devices(1)
    loop = EvaluationLoop(TinyNet(), evaluation, tiny.task, used, seed=0)
    report, picture = loop(replicate(variables, used), tiny.task.open(None), 8)
    assert set(report.metrics) == names
    assert (picture is None) == (not evaluation.predict)


def test_some_examples_are_the_first(variables):
    tiny, used = experiment(DEFAULTS), local_devices(1)
    few = EvaluationLoop(TinyNet(), Evaluation(examples=3), tiny.task, used, seed=0)
    found = few(replicate(variables, used), tiny.task.open(None), 8)[0].metrics
    batch = make_batch([100, 101, 102])
    labeled = batch.labels >= 0
    labels = np.asarray(TinyNet().apply(variables, batch, method="predict").labels)
    assert found["accuracy"] == (labels == batch.labels)[labeled].mean()


def test_an_evaluation_of_nothing_is_refused():
    with pytest.raises(UserError, match="leave one of them on"):
        Evaluation(loss=False, predict=False)
    with pytest.raises(UserError, match="give 1 or more"):
        Evaluation(examples=0)
