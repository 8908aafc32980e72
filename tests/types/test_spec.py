"""Specs: recorded and read back as they were, told from one another."""

import json
from dataclasses import replace

import pytest

from vision_jax.types import ClassificationSpec, DataSpec, DetectionSpec, SegmentationSpec

SPECS = [
    ClassificationSpec(("cat", "dog"), (64, 32)),
    DetectionSpec(("cell",), (320, 256)),
    SegmentationSpec(("road", "sky"), (64, 64), (0.5, 2.0)),
    SegmentationSpec(("road", "sky"), (64, 64)),
]


@pytest.mark.parametrize("spec", SPECS)
def test_a_record_gives_the_spec_back(spec, tmp_path):
    assert isinstance(spec, DataSpec)
    content = json.loads(json.dumps(spec.to_json(tmp_path)))
    back = type(spec).from_json(content, tmp_path)
    assert back == spec
    assert hash(back) == hash(spec)
    assert back.fingerprint() == spec.fingerprint()
    assert not list(tmp_path.iterdir())


def test_whatever_differs_is_in_the_fingerprint():
    spec = SPECS[2]
    others = [
        replace(spec, classes=("sky", "road")),
        replace(spec, canvas=(64, 63)),
        replace(spec, class_weights=(0.5, 2.5)),
        replace(spec, class_weights=None),
    ]
    assert len({each.fingerprint() for each in [spec, *others]}) == 5


def test_the_log_tells_what_the_data_decided():
    assert SPECS[0].describe() == "2 classes, canvas 64 x 32"
    assert SPECS[2].describe() == "2 classes, weighted, canvas 64 x 64"
