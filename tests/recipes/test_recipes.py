"""Recipes: found by name, given other defaults, shipped with the package."""

import inspect
import subprocess
import sys
import typing
import zipfile
from dataclasses import replace

import pytest

from tests.paths import CLAIMS, EXPERIMENTS, REPOSITORY
from vision_jax import Experiment, TrainConfig, recipes
from vision_jax.cli.experiments import parse
from vision_jax.cli.origins import find_origin, load_module
from vision_jax.recipes import mask_rcnn, recipe_names, recipe_with, small_cnn
from vision_jax.sweeps.index import INDEX, index_page
from vision_jax.training.experiment import Evaluation
from vision_jax.types import ClassificationSpec, UserError


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_a_function_from_hyperparameters_to_an_experiment(name):
    function = getattr(recipes, name)
    assert typing.get_type_hints(function)["return"] is Experiment
    module = sys.modules[function.__module__]
    assert module.__name__ == f"vision_jax.recipes.{name}"
    assert f"vision-jax train {name}" in module.__doc__
    assert name in recipes.__all__  # which type checkers read


def test_a_recipe_is_its_function_however_its_module_came_to_be_imported():
    program = (
        "import sys, vision_jax.recipes;"
        "slow = {'jax', 'flax', 'numpy', 'tyro'} & set(sys.modules);"
        "assert not slow, slow;"
        "import vision_jax.recipes.small_cnn as first;"
        "from vision_jax.recipes import small_cnn as second, image_classifier as third;"
        "from vision_jax.recipes.image_classifier import experiment;"
        "assert first is second and callable(first), first;"
        "assert third is experiment;"
        "assert third is vision_jax.recipes.image_classifier"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="small_cmn"):
        _ = recipes.small_cmn  # type: ignore[attr-defined]


def test_other_defaults_keep_the_signature_and_the_command_line(capsys):
    train = TrainConfig(steps=7)
    other = recipe_with(mask_rcnn, backbone="resnet50", train=train)
    old, new = inspect.signature(mask_rcnn), inspect.signature(other)
    changed = {n for n in old.parameters if old.parameters[n].default != new.parameters[n].default}
    assert changed == {"backbone", "train"}
    assert list(new.parameters) == list(old.parameters)
    arguments, _ = parse(other, ["--train.batch-size", "3"], "prog")
    assert arguments["backbone"] == "resnet50"
    assert arguments["train"] == replace(train, batch_size=3)
    with pytest.raises(SystemExit):
        parse(other, ["--help"], "prog")
    assert "Trains one Mask R-CNN." in capsys.readouterr().out


def test_other_defaults_reach_the_experiment_and_arguments_win():
    other = recipe_with(small_cnn, lambda made: replace(made, evaluations={"again": Evaluation()}), seed=5)
    assert other().seed == 5
    assert other(seed=6).seed == 6
    assert set(other().evaluations) == {"again"}
    assert recipe_with(other, widths=(4,))().model(ClassificationSpec(("a",), (8, 8))).widths == (4,)


def test_defaults_that_a_recipe_does_not_take_are_an_error_at_once():
    with pytest.raises(UserError, match=r"recipe_with\(mask_rcnn, backbon=.*did you mean `backbone`"):
        recipe_with(mask_rcnn, backbon="resnet50")
    with pytest.raises(UserError, match="--fpn-features 0: give 1 or more"):
        recipe_with(mask_rcnn, fpn_features=0)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_has_its_recipes_signature_or_says_why_not(name):
    module = load_module(find_origin(str(CLAIMS[name])))
    path = CLAIMS[name].relative_to(REPOSITORY).as_posix()
    assert f"vision-jax sweep {path}" in module.__doc__
    assert module.SWEEP
    wrapped = getattr(module.experiment, "__wrapped__", None)
    if wrapped is None:
        assert "A function of its own" in module.__doc__
        return
    new, old = inspect.signature(module.experiment), inspect.signature(wrapped)
    assert [(p.name, p.annotation, p.kind) for p in new.parameters.values()] == [
        (p.name, p.annotation, p.kind) for p in old.parameters.values()
    ]
    assert module.experiment.__doc__ == wrapped.__doc__


def test_every_experiment_stands_in_a_folder_with_its_result():
    folders = [path for topic in EXPERIMENTS.iterdir() if topic.is_dir() for path in topic.iterdir()]
    for folder in [path for path in folders if path.is_dir() and path.name != "__pycache__"]:
        names = {path.name for path in folder.iterdir()}
        assert "result.md" in names
        assert {"claim.py", "study.py"} & names, folder


def test_the_index_of_verdicts_is_made_from_the_results():
    page = (EXPERIMENTS / INDEX).read_text()
    assert page == index_page(EXPERIMENTS), "make it anew: vision-jax report --index experiments"


@pytest.mark.slow
def test_recipes_are_in_the_wheel(tmp_path):
    words = ["uv", "build", "--wheel", "--offline", "--out-dir", str(tmp_path), str(REPOSITORY)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs uv")
    if done.returncode:
        pytest.skip(f"needs hatchling in uv's cache: {done.stderr[-300:]}")
    (wheel,) = tmp_path.glob("*.whl")
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {f"vision_jax/recipes/{name}.py" for name in ["__init__", *recipe_names()]} <= files
    assert not [name for name in files if name.startswith(("experiments/", "tests/"))]
