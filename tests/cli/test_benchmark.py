"""`vision-jax benchmark` end to end on one tiny case, and its mistakes."""

import json

import pytest

from vision_jax.benchmarks import run
from vision_jax.cli import main


@pytest.mark.slow
def test_a_case_is_measured_printed_and_saved(tmp_path, capsys):
    out = tmp_path / "new" / "speed.md"
    words = ["benchmark", "--only", "box_iou", "--boxes", "3000", "--rounds", "3", "--out", str(out)]
    assert main(words) == 0
    page = capsys.readouterr().out
    assert page == out.read_text()
    assert "| box_iou |" in page
    assert f"--out {out}" in page
    saved = json.loads(out.with_suffix(".json").read_text())
    (case,) = saved["cases"]
    assert len(case["seconds"]["ours"]) == 3
    assert set(case["first_call"]) == {"cold", "warm"}
    # All IoUs at once; the kernel counts pages in batches.
    assert 0.9 * 4 * 3000**2 < case["memory"]["ours"] < 2**28
    assert case["memory_how"].startswith("process")
    assert saved["machine"]["versions"]["jax"]


def test_a_case_that_dies_is_said_and_the_rest_goes_on(monkeypatch, capsys):
    def child(order, folder):
        if order["case"] == "nms_dense":
            return {"error": "ended with code -9"}
        time = {"seconds": {"ours": [1.0]}, "counts": {"ours": {}}, "images": 0, "device": "cpu"}
        return {**time, "first_call": 1.0, "bytes": 1, "how": "guessed"}

    monkeypatch.setattr(run, "_child", child)
    assert main(["benchmark", "--only", "nms"]) == 1
    page = capsys.readouterr().out
    assert "nms_dense failed: ended with code -9" in page
    assert "| nms_spread |" in page
    assert "| nms_chain |" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "nsm_chain"], "did you mean nms_chain"),
        (["--rounds", "0"], "--rounds 0"),
        (["--canvas", "0"], "--canvas 0"),
        (["--rois-per-image", "3"], "--rois-per-image 3"),
        (["--out", "speed.txt"], "ends in .md"),
        (["--only", "input_pipeline", "--data", "coco:/nowhere"], "/nowhere"),
    ],
)
def test_mistakes_in_the_options_are_named(words, said, capsys):
    assert main(["benchmark", *words]) == 2
    assert said in capsys.readouterr().err.lower()
