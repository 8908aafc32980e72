"""The order in which trials start, with workers whose trials only leave the files of a run."""

import json

import pytest

from vision_jax.sweeps.board import Board
from vision_jax.sweeps.folder import SweepFolder, Trial
from vision_jax.sweeps.run import run_trials
from vision_jax.training.origin import Origin

pytestmark = pytest.mark.slow


class Leaves:
    """A trial that is past compiling when looked at the third time, and done at the sixth."""

    def __init__(self, run, diary):
        self.run, self.diary, self.looks = run, diary, 0
        self.run.mkdir(parents=True)
        (self.run / "experiment.json").write_text("{}")
        self.diary.append(("begins", run.name))

    def poll(self):
        self.looks += 1
        if self.looks == 3:
            (self.run / "cost.json").write_text("{}")
            self.diary.append(("compiled", self.run.name))
        if self.looks == 6:
            (self.run / "results.json").write_text(json.dumps({"default": {}}))
            self.diary.append(("done", self.run.name))
        return 0 if self.looks >= 6 else None

    def stop(self, now=False):
        raise AssertionError("nobody asked it to")


class TwoAtATime:
    slots = 2

    def __init__(self, folder):
        self.folder, self.diary = folder, []

    def start(self, slot, words, output):
        return Leaves(self.folder.path / words[-1].rpartition("/")[2], self.diary)


@pytest.mark.parametrize(
    ("values", "waits"),
    [
        (({"seed": 0}, {"seed": 1}), True),
        (({"train.learning_rate": 0.1}, {"train.learning_rate": 0.2}), True),
        (({"train.steps": 10, "seed": 0}, {"train.steps": 20, "seed": 1}), True),
        (({"train.batch_size": 8}, {"train.batch_size": 16}), False),
        (({"roi": "pool"}, {"roi": "align"}), False),
        (({"momentum": 0.8}, {"momentum": 0.9}), False),  # of the model, for all one knows
    ],
)
def test_a_program_is_compiled_by_one_trial_while_others_wait(tmp_path, values, waits):
    file = tmp_path / "study.py"
    file.write_text("")
    trials = [Trial(f"trial{i}", v, v, ()) for i, v in enumerate(values)]
    folder = SweepFolder(tmp_path / "sweep")
    origin = Origin("study.py", file=file)
    folder.begin(origin, "vision-jax sweep study.py", trials)
    workers = TwoAtATime(folder)
    states = run_trials(folder, trials, origin, workers, Board())
    assert states == {"trial0": "done", "trial1": "done"}
    order = workers.diary
    assert (order.index(("compiled", "trial0")) < order.index(("begins", "trial1"))) == waits
    # It waits for the program, not for the trial.
    assert order.index(("begins", "trial1")) < order.index(("done", "trial0"))
