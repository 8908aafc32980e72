"""A small experiment file with a sweep, and the command line in a process of its own."""

import os
import signal
import subprocess
import sys

import pytest

from tests.paths import REPOSITORY

EXPERIMENT = '''
"""Tiny: two convolutions on digits."""
from typing import Literal

from vision_jax.models.classification.small_cnn import SmallCNN
from vision_jax.sweeps import Claim, PaperFigures, grid
from vision_jax.tasks import ClassificationTask
from vision_jax.training.experiment import Evaluation, Experiment, Gradient, TrainConfig


def experiment(
    norm: Literal["batch", "group"] = "batch",
    widths: tuple[int, ...] = (4,),
    fail: bool = False,
    seed: int = 0,
    train: TrainConfig = TrainConfig(
        steps=24, batch_size=16, learning_rate=0.1, warmup_steps=2, checkpoint_every=24, log_every=3
    ),
) -> Experiment:
    """Trains.

    Args:
        norm: which.
        widths: channels.
        fail: whether to break.
        seed: of all.
        train: how.
    """
    if fail:
        raise ValueError("broken on purpose")
    return Experiment(
        model=lambda spec: SmallCNN(len(spec.classes), widths, norm),
        task=ClassificationTask("digits"),
        stages=(Gradient(train),),
        seed=seed,
        evaluations={"again=1": Evaluation()},
    )


SWEEP = grid(norm=["batch", "group"], seed=[0])
METRICS = ("accuracy", "loss")
PAPER = [PaperFigures("Nobody 1999", {"norm": "group"}, {"accuracy": 0.25})]
ONCE = {"evaluation": "default"}
CLAIMS = [Claim("group is better", "accuracy", {"norm": "batch"}, {"norm": "group"}, ONCE)]
'''


class Started:
    """`vision-jax WORDS`, in a process."""

    def __init__(self, words, folder):
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(REPOSITORY),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import sys; from vision_jax.cli import main; sys.exit(main())", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=folder,
        )

    def end(self, signum=None):
        """The exit code and what was printed."""
        if signum is not None:
            self.process.send_signal(signum)
        output, _ = self.process.communicate(timeout=240)
        return self.process.returncode, output


@pytest.fixture(scope="session")
def start():
    """(folder, words) -> a started command; the experiment file tiny.py is in the folder."""
    begun = []

    def starter(folder, *words):
        file = folder / "tiny.py"
        if not file.exists():
            file.write_text(EXPERIMENT)
        begun.append(Started(tuple(map(str, words)), folder))
        return begun[-1]

    yield starter
    for started in begun:
        if started.process.poll() is None:
            started.process.send_signal(signal.SIGKILL)
            started.process.communicate()
