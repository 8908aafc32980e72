"""How a machine is divided among workers."""

import os

import pytest

from vision_jax.sweeps.workers import divide
from vision_jax.types import UserError

CORES = (
    sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
)


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_cores_are_divided_disjoint_and_equal():
    resources = divide(len(CORES), None)
    assert [each.cores for each in resources] == [(core,) for core in CORES]
    assert all(each.gpus is None for each in resources)
    (alone,) = divide(1, None)
    assert alone.cores == tuple(CORES)
    (limited,) = divide(1, 1)
    assert limited.cores == (CORES[0],)


def test_gpus_are_divided_in_order(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    (alone,) = divide(1, None)
    assert alone.gpus == ("3", "5", "6", "7")
    if len(CORES) >= 2:
        assert [each.gpus for each in divide(2, 1)] == [("3", "5"), ("6", "7")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    if len(CORES) >= 2:
        with pytest.raises(UserError, match="1 GPUs"):
            divide(2, 1)


@pytest.mark.parametrize(
    ("workers", "threads"), [(0, None), (1, 0), (len(CORES) + 1, None), (1, len(CORES) + 1)]
)
def test_more_than_there_is_and_less_than_one(workers, threads):
    with pytest.raises(UserError, match="give"):
        divide(workers, threads)
