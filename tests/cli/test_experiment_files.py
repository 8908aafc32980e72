"""Experiment files: loading, their command lines, what is recorded."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from vision_jax.cli.experiments import (
    arguments_from_json,
    check_recordable,
    parse,
)
from vision_jax.cli.origins import find_origin
from vision_jax.cli.origins import load_experiment as load_origin
from vision_jax.types import UserError

GOOD = """
    from dataclasses import dataclass
    from typing import Literal
    from vision_jax.training.experiment import TrainConfig

    @dataclass(frozen=True)
    class Head:
        width: int = 7

    def experiment(
        roi: Literal["align", "pool"] = "align",
        canvas: tuple[int, int] | None = None,
        head: Head = Head(),
        train: TrainConfig = TrainConfig(steps=2000),
    ):
        '''Trains it.

        Args:
            roi: how features are cut out.
        '''
        return roi, canvas, head, train
"""


def load_experiment(path: Path):
    return load_origin(find_origin(str(path)))


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text))
    return path


@pytest.fixture
def function(tmp_path):
    return load_experiment(write(tmp_path / "good.py", GOOD))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def experimnt(): ...", "defines no `experiment`"),
        ("experiment = 3", "should be a function"),
        ("def experiment(x: int\n", "line 1"),
        ("import not_a_module_at_all", "not_a_module_at_all"),
        ("def experiment(**options: int): ...", "options"),
        ("def experiment(rate=0.1): ...", "`rate` has no type"),
    ],
)
def test_a_file_that_is_no_experiment_is_named_with_the_reason(tmp_path, text, words):
    file = write(tmp_path / "wrong.py", text)
    with pytest.raises(UserError) as error:
        load_experiment(file)
    assert str(file) in str(error.value)
    assert words in str(error.value)


def test_a_mistyped_file_gets_the_nearest_one(tmp_path):
    write(tmp_path / "faster_rcnn.py", GOOD)
    with pytest.raises(UserError, match=r"did you mean .*faster_rcnn\.py"):
        load_experiment(tmp_path / "faster_rccn.py")
    with pytest.raises(UserError, match=r"did you mean .*faster_rcnn\.py"):
        load_experiment(tmp_path / "faster_rcnn_")
    with pytest.raises(UserError, match=r"is a folder without a claim\.py; there are: .*faster_rcnn\.py"):
        load_experiment(tmp_path)


def test_a_claims_folder_and_its_file_are_the_same_experiment(tmp_path):
    (tmp_path / "study").mkdir()
    write(tmp_path / "study" / "claim.py", GOOD)
    for word in (tmp_path / "study", tmp_path / "study" / "claim.py"):
        origin = find_origin(str(word))
        assert origin.name == "study"
        assert origin.file == tmp_path / "study" / "claim.py"
        assert callable(load_origin(origin))


def test_the_signature_is_the_command_line(function):
    words = ["--roi", "pool", "--canvas", "512", "384", "--head.width", "9", "--train.steps", "5"]
    arguments, options = parse(function, words, "prog")
    assert options is None
    roi, canvas, head, train = function(**arguments)
    assert (roi, canvas, head.width, train.steps) == ("pool", (512, 384), 9, 5)


def test_a_mistyped_option_gets_the_nearest_one(function, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(function, ["--train.stpes", "5"], "prog")
    assert stopped.value.code == 2
    assert "--train.steps" in capsys.readouterr().err


def test_help_shows_types_defaults_and_what_the_docstring_says(function, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(function, ["--help"], "prog")
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for words in ("{align,pool}", "how features are cut out", "2000", "Trains it."):
        assert words in shown


@dataclass(frozen=True)
class Options:
    """A command's own."""

    out: str = "here"


@dataclass(frozen=True)
class Clashing:
    """A command's own."""

    roi: str = "here"


def test_a_commands_options_stand_beside_the_experiments(function):
    arguments, options = parse(function, ["--out", "there", "--roi", "pool"], "prog", Options())
    assert options == Options("there")
    assert arguments["roi"] == "pool"
    assert "out" not in arguments
    with pytest.raises(UserError, match="--roi"):
        parse(function, [], "prog", Clashing())


def test_recorded_arguments_come_back_and_are_the_next_defaults(function):
    arguments, _ = parse(function, ["--canvas", "64", "32", "--train.steps", "5"], "prog")
    recorded = check_recordable(function, arguments)
    assert recorded["canvas"] == [64, 32]
    assert recorded["train"]["steps"] == 5
    assert arguments_from_json(function, recorded, "experiment.json") == arguments
    again, _ = parse(function, ["--roi", "pool"], "prog", defaults=arguments)
    assert again == {**arguments, "roi": "pool"}


def test_records_that_do_not_fit_the_file_are_refused(function):
    with pytest.raises(UserError, match="`anchors`"):
        arguments_from_json(function, {"anchors": 3}, "experiment.json")
    with pytest.raises(UserError, match=r"experiment\.json: roi"):
        arguments_from_json(function, {"roi": "pol"}, "experiment.json")


def test_arguments_that_json_cannot_carry_are_refused_before_training(tmp_path):
    function = load_experiment(
        write(tmp_path / "e.py", "from typing import Any\ndef experiment(x: Any = (1, 2)): ...")
    )
    with pytest.raises(UserError, match="faithfully"):
        check_recordable(function, {"x": (1, 2)})


def test_a_nan_in_a_nested_argument_is_recorded(function):
    """Every Python agrees, those too whose dataclasses with a NaN are unlike themselves."""
    arguments, _ = parse(function, ["--train.learning-rate", "nan"], "prog")
    assert check_recordable(function, arguments)["train"]["steps"] == arguments["train"].steps
