"""What a run folder records."""

import json

import pytest

from vision_jax.training.run_folder import RunFolder, differences
from vision_jax.types import UserError


def test_a_run_without_the_datas_spec_is_refused_by_its_version(tmp_path):
    record = {"classes": ["a"], "versions": {"vision_jax": "0.2.0"}}
    (tmp_path / "experiment.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"was written by vision_jax 0\.2\.0, whose runs do not record"):
        RunFolder(tmp_path).read_record()


def test_differences_name_options_as_they_are_typed():
    old = {"train": {"steps": 5, "batch_size": 2}, "seed": 0}
    assert differences(old, old) == []
    found = differences(old, {"train": {"steps": 5, "batch_size": 4}, "seed": 1})
    assert found == ["--train.batch-size is 2 in the run, not 4", "--seed is 0 in the run, not 1"]
