"""What a sweep says of its trials while it runs."""

import pytest

from vision_jax.sweeps.board import Board, Line
from vision_jax.sweeps.progress import TrialProgress


@pytest.mark.parametrize(
    ("metrics", "said"),
    [(("mask/AP", "AP"), "AP 0.25"), (("recall",), "recall 0.5"), ((), "loss 2"), (("mask/AP",), "loss 2")],
)
def test_the_first_metric_that_a_trial_has_is_shown(metrics, said, capsys):
    progress = TrialProgress(9, 9, "loss", {"AP": 0.25, "recall": 0.5, "loss": 2.0})
    with Board(metrics) as board:
        board.ended(Line("seed=0", "done", progress, 75.0), "")
    assert capsys.readouterr().out == f"seed=0: done after 1:15  {said}\n"
