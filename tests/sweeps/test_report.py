"""Tables and verdicts from run folders written by hand: two arms, three seeds, sixty test images."""

import csv
import json
import statistics
from dataclasses import replace

import numpy as np
import pytest

from vision_jax.evaluation.per_image.file import PerImage
from vision_jax.evaluation.per_image.kinds import Means
from vision_jax.sweeps import Claim, PaperFigures
from vision_jax.sweeps.claims import Study
from vision_jax.sweeps.folder import SweepFolder, Trial
from vision_jax.sweeps.outcomes import arms, read_outcomes
from vision_jax.sweeps.report import write_report
from vision_jax.sweeps.verdicts import decide_claims
from vision_jax.training.origin import Origin
from vision_jax.types import UserError

IMAGES = 60
# How many of the sixty images each seed gets right.
RIGHT = {"pool": (30, 33, 36), "align": (48, 45, 51), "same": (33, 30, 36)}


@pytest.fixture
def folder(tmp_path):
    file = tmp_path / "study.py"
    file.write_text("def experiment(): ...\n")
    sweep = SweepFolder(tmp_path / "sweep")
    trials = [
        Trial(
            f"roi={roi},seed={seed}", {"roi": roi, "stride": 16, "seed": seed}, {"roi": roi, "seed": seed}, ()
        )
        for roi in RIGHT
        for seed in range(3)
    ]
    sweep.begin(Origin("study.py", file=file), "vision-jax sweep study.py", trials)
    for trial in trials:
        run = sweep.run_folder(trial)
        run.mkdir()
        right = np.zeros(IMAGES)
        right[: RIGHT[trial.values["roi"]][trial.values["seed"]]] = 1
        right = np.random.default_rng(7).permutation(right)
        PerImage(np.arange(IMAGES), (Means({"accuracy": right}),)).write(run / "per_image.npz")
        record = {"arguments": trial.arguments, "metric": "accuracy", "commit": "abc", "steps": 20}
        (run / "experiment.json").write_text(json.dumps(record))
        (run / "cost.json").write_text(json.dumps({"flops": 2e9, "bytes": 3 * 2**20}))
        (run / "metrics.csv").write_text(
            "step,train/loss,time/steps,time/evaluation,time/example\n10,2,30,,\n20,1,60,,\n20,,,30,0.5\n"
        )
        (run / "results.json").write_text(json.dumps({"default": {"accuracy": float(right.mean())}}))
    return sweep


def arm(folder, roi):
    return next(a for a in arms(read_outcomes(folder)) if a.values["roi"] == roi)


def test_seeds_are_folded_into_mean_and_deviation(folder):
    found = arm(folder, "pool")
    values = [n / IMAGES for n in RIGHT["pool"]]
    assert found.mean("accuracy") == pytest.approx(statistics.fmean(values))
    assert found.spread("accuracy") == pytest.approx(0.05)  # 0.50, 0.55, 0.60: by n - 1
    assert found.label == "roi=pool"  # all arms have the stride
    assert np.isnan(found.mean("nothing"))


def test_the_page_has_figures_costs_and_the_papers_figures(folder):
    paper = PaperFigures("Nobody 1999", {"roi": "pool"}, {"accuracy": 0.5})
    text = write_report(folder, Study([], (), (paper,)))
    row = next(line for line in text.splitlines() if line.startswith("| pool"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["pool", "3", "0.5500 ± 0.0500", "0.500", "2", "500", "2", "3"]
    with (folder.path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert float(rows[3]["accuracy"]) == 48 / IMAGES
    assert rows[3]["time/seconds"] == "120.000"


def test_columns_lay_a_table_out_as_the_papers(folder):
    paper = PaperFigures("Nobody 1999", {"roi": "pool"}, {"accuracy": 0.5})
    lines = write_report(folder, Study([], (), (paper,), columns="roi")).splitlines()
    (head,) = [i for i, line in enumerate(lines) if line.startswith("| roi=pool")]
    assert [cell.strip() for cell in lines[head].split("|")[1:-1]] == ["roi=pool", "roi=align", "roi=same"]
    first, second, _ = (cell.strip() for cell in lines[head + 2].split("|")[1:-1])
    assert first.startswith("0.5500 [")
    assert first.endswith("] (0.500)")
    low, high = map(float, first[first.index("[") + 1 : first.index("]")].split(","))
    assert 0.35 < low < 0.5 < 0.6 < high < 0.75  # 60 images of three seeds: 0.55 plus or minus 0.13
    assert second.startswith("0.8000 [")
    assert "(" not in second


@pytest.mark.parametrize(
    ("claim", "word"),
    [
        (Claim("better", "accuracy", {"roi": "pool"}, {"roi": "align"}), "reproduced"),
        (Claim("worse", "accuracy", {"roi": "align"}, {"roi": "pool"}), "not reproduced: the opposite"),
        (Claim("alike", "accuracy", {"roi": "pool"}, {"roi": "same"}), "within noise"),
        (Claim("less error", "accuracy", {"roi": "align"}, {"roi": "pool"}, lower=True), "reproduced"),
        (Claim("here", "accuracy", {"roi": "pool"}, {"roi": "align"}, {"stride": 16}), "reproduced"),
    ],
)
def test_verdicts_go_by_the_interval(folder, claim, word):
    (verdict,) = decide_claims(arms(read_outcomes(folder)), [claim])
    assert verdict.word == word
    means = {roi: statistics.fmean(n) / IMAGES for roi, n in RIGHT.items()}
    expected = means[claim.better["roi"]] - means[claim.worse["roi"]]
    assert verdict.measured.value == pytest.approx(expected)
    assert verdict.measured.paired
    assert verdict.pair == f"roi={claim.worse['roi']} → roi={claim.better['roi']}"


def test_a_claim_that_fits_no_arms_is_named(folder):
    claim = Claim("somewhere else", "accuracy", {"roi": "pool"}, {"roi": "align"}, {"stride": 32})
    text = write_report(folder, Study([], ("accuracy",), (), (claim,)))
    assert "- somewhere else (accuracy)" in text


def test_arms_may_lack_what_others_vary(folder):
    folded = arms(read_outcomes(folder))
    wider = replace(folded[2], values={**folded[2].values, "extra": 1})
    both = [replace(a, named=(*a.named, "extra")) for a in (*folded[:2], wider)]
    (verdict,) = decide_claims(both, [Claim("better", "accuracy", {"roi": "pool"}, {"roi": "align"})])
    assert verdict.pair == "roi=pool → roi=align"


def test_a_damaged_file_costs_its_own_verdict_alone(folder):
    (folder.path / "roi=same,seed=1" / "per_image.npz").write_bytes(b"PK nonsense")
    claims = (
        Claim("better", "accuracy", {"roi": "pool"}, {"roi": "align"}),
        Claim("alike", "accuracy", {"roi": "pool"}, {"roi": "same"}),
    )
    good, bad = decide_claims(arms(read_outcomes(folder)), claims)
    assert good.word == "reproduced"
    assert bad.word.startswith("undecided: ")
    assert "per_image.npz" in bad.word


def test_metrics_that_no_trial_has(folder):
    with pytest.raises(UserError, match=r"no trial has mIoU; there are: accuracy"):
        write_report(folder, Study([], ("mIoU",)))


def test_two_points_never_have_the_same_folder(folder, tmp_path):
    twins = [Trial(name, {"a": name}, {"a": name}, ()) for name in ("a=X", "a=x")]
    with pytest.raises(UserError, match="would have the same folder"):
        folder.begin(Origin("study.py", file=tmp_path / "study.py"), "", twins)


def test_foreign_files_change_no_report(folder):
    before = write_report(folder, Study((), ("accuracy",)))
    for below in [folder.path, *(path for path in folder.path.rglob("*") if path.is_dir())]:
        for name in (".DS_Store", "._sweep.json", "._results.json", "Thumbs.db", "._per_image.npz", "3.tmp"):
            (below / name).write_bytes(b"\0\5\26\7")
        (below / ".ipynb_checkpoints").mkdir()
    assert {folder.state(trial) for trial in folder.trials()} == {"done"}
    assert write_report(folder, Study((), ("accuracy",))) == before
