"""The page: medians, how many times as fast, and counts from rounds, worked by hand; what failed is said."""

import pytest

from vision_jax.benchmarks.run import check_peers, chosen, describe_machine
from vision_jax.benchmarks.table import benchmark_report, table
from vision_jax.types import UserError

BOTH = {
    "name": "mask_rcnn_predict",
    "seconds": {"ours": [0.5, 9.0, 0.25], "theirs": [1.0, 0.75, 7.0]},
    "counts": {"ours": {"detections": 100}, "theirs": {"detections": 99}},
    "first_call": {"cold": 12.0, "warm": 3.456},
    "images": 1,
    "device": "cpu",
    "memory": {"ours": 300 * 2**20, "theirs": 2**21},
    "memory_how": "of the process",
}
ALONE = {
    **BOTH,
    "name": "input_pipeline",
    "seconds": {"ours": [0.0125]},
    "counts": {"ours": {"images": 32}},
    "images": 32,
    "memory": {"ours": 2**20},
}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_medians_times_as_fast_and_counts_of_both_sides():
    heads, _, both, alone = map(cells, table([BOTH, ALONE]))
    row = dict(zip(heads, both, strict=True))
    assert row["vision_jax, ms"] == "500"
    assert row["torchvision, ms"] == "1,000"
    assert row["times as fast"] == "2.00"
    assert row["images/s"] == "2"
    assert row["counts"] == "100 and 99 detections"
    assert (row["first call cold, s"], row["warm, s"]) == ("12.00", "3.46")
    assert (row["memory, MiB"], row["torchvision, MiB"]) == ("300", "2")
    row = dict(zip(heads, alone, strict=True))
    assert (row["times as fast"], row["torchvision, ms"], row["torchvision, MiB"]) == ("", "", "")
    assert row["counts"] == "32 images"
    assert row["images/s"] == "2,560"


def test_alone_there_is_no_column_of_a_peer():
    assert "torchvision" not in "".join(table([ALONE]))
    assert "times as fast" not in "".join(table([ALONE]))


def test_the_page_names_the_machine_and_what_failed():
    about = {
        "command": "vision-jax benchmark",
        "date": "2026-01-02",
        "rounds": 3,
        "machine": describe_machine(False),
    }
    page = benchmark_report([ALONE, {"name": "nms_chain", "error": "killed"}], about)
    here = about["machine"]
    for said in (here["name"], here["processor"], f"{here['cores']} cores", "2026-01-02", "of 3 rounds"):
        assert said in page
    assert f"jax {here['versions']['jax']}" in page
    assert "nms_chain failed: killed" in page
    assert "| nms_chain" not in page


def test_a_word_chooses_a_case_or_all_of_a_kind():
    assert chosen(["nms", "roi_align_forward"]) == [
        "roi_align_forward",
        "nms_spread",
        "nms_dense",
        "nms_chain",
    ]
    assert len(chosen([])) == 29
    with pytest.raises(UserError, match=r"--only box_iuo.*Did you mean box_iou\?"):
        chosen(["box_iuo"])
    with pytest.raises(UserError, match="no such case"):
        chosen(["nm"])


def test_peers_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torchvision" else name)
    with pytest.raises(UserError, match="--peers needs torchvision: uv pip install"):
        check_peers()
