"""Cases so small that compiling takes most of their time."""

import pytest

from vision_jax.benchmarks.case import Settings


@pytest.fixture(scope="session")
def tiny():
    return Settings(
        backbone="resnet18",
        batch=1,
        segmented=2,
        image=33,
        canvas=64,
        proposals=30,
        rois_per_image=16,
        boxes=40,
        regions=3,
        cells=8,
        channels=8,
    )
