"""What a run folder records."""

from vision_jax.training.run_folder import differences


def test_differences_name_options_as_they_are_typed():
    old = {"train": {"steps": 5, "batch_size": 2}, "seed": 0}
    assert differences(old, old) == []
    found = differences(old, {"train": {"steps": 5, "batch_size": 4}, "seed": 1})
    assert found == ["--train.batch-size is 2 in the run, not 4", "--seed is 0 in the run, not 1"]
