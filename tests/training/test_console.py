"""What the log says of a stage without gradients."""

import time

import pytest

from vision_jax.training import console
from vision_jax.training.console import Console, StageProgress


def test_progress_has_counts_a_rate_and_the_time_left(tmp_path, monkeypatch):
    monkeypatch.setattr(console, "_LINE_SECONDS", 0.0)
    with Console(tmp_path / "log.txt") as shown, StageProgress(shown, "svms") as progress:
        progress(2, 12, "classes")
        time.sleep(0.2)
        progress(4, 12, "classes")
        progress(12, 12, "classes")
    first, second, last = (
        line.partition(" I ")[2] for line in (tmp_path / "log.txt").read_text().splitlines()
    )
    assert first == "stage svms: 2/12  classes"
    rate = float(second.removeprefix("stage svms: 4/12  ").partition(" ")[0])
    assert 5.0 < rate <= 10.0  # 2 of them in 0.2 s, or a little more
    assert second.endswith(f"classes/s  ETA 0:0{round(8 / rate)}")
    assert last.startswith("stage svms: 12/12")
    assert "ETA" not in last


def test_lines_are_seldom(tmp_path):
    with Console(tmp_path / "log.txt") as shown, StageProgress(shown, "svms") as progress:
        for done in range(101):
            progress(done, 100)
    (line,) = (tmp_path / "log.txt").read_text().splitlines()
    assert "stage svms: 100/100" in line


@pytest.mark.slow
def test_a_silent_stage_tells_how_long_it_has_run(tmp_path, monkeypatch):
    monkeypatch.setattr(console, "_SILENT_SECONDS", 1.0)
    with Console(tmp_path / "log.txt") as shown, StageProgress(shown, "svms"):
        time.sleep(2.5)
    assert "stage svms: 0:01 since its start" in (tmp_path / "log.txt").read_text()
