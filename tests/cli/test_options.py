"""Numbers that an experiment's options cannot be: told at the start, by name, before any data are opened."""

import dataclasses
import importlib.util
import inspect
import math
import sys
import typing
from collections.abc import Sequence

import numpy as np
import pytest

from tests.paths import CLAIMS, STUDIES
from vision_jax.cli import main
from vision_jax.cli.origins import find_origin, load_experiment
from vision_jax.cli.scripts import run_script
from vision_jax.data.digits.distortions import Distortion
from vision_jax.data.transforms.augment import Augment
from vision_jax.layers import FPN
from vision_jax.models.classification.small_cnn import SmallCNN
from vision_jax.models.detection.two_stage import RPN, FasterRCNN, MLPHead
from vision_jax.models.segmentation.unet import UNet
from vision_jax.recipes import recipe_names
from vision_jax.training.experiment import TrainConfig
from vision_jax.training.optimizers import check_config
from vision_jax.types import Count, Fraction, Limits, UserError, check_options

# What names every recipe and claim on a command line; and the studies, scripts that are no claims.
WORDS = {**{name: name for name in recipe_names()}, **{name: str(path) for name, path in CLAIMS.items()}}
SCRIPTS = {"mask_targets": "main", "checkerboards": "main", "film": "film"}

MISTAKES = [
    ("faster_rcnn --anchor-sizes 16 32", "--anchor-sizes 16 32: give 5 values"),
    ("faster_rcnn --fpn-features 0", "--fpn-features 0: give 1 or more"),
    ("faster_rcnn --rois-per-image 0", "--rois-per-image 0: give 1 or more"),
    ("faster_rcnn --aspect-ratios 0 1", "--aspect-ratios 0 1: give for each value a number above 0"),
    ("faster_rcnn --aspect-ratios", "--aspect-ratios (no value): give one value or more"),
    ("faster_rcnn --anchor-sizes 16 32 64 128 nan", "16 32 64 128 nan: give for each value a number"),
    ("faster_rcnn --nms-threshold 1.5", "--nms-threshold 1.5: give a number from 0 to 1"),
    ("faster_rcnn --train-proposals 0 100", "--train-proposals 0 100: give for each value 1 or more"),
    ("faster_rcnn --max-detections -1", "--max-detections -1: give 1 or more"),
    ("faster_rcnn --canvas 0 0", "--canvas 0 0: give for each value 1 or more"),
    ("faster_rcnn --seed -1", "--seed -1: give a number from 0 to"),
    ("faster_rcnn --train.batch-size 0", "--train.batch-size 0: give 1 or more"),
    ("faster_rcnn --train.steps 0", "--train.steps 0: give 1 or more"),
    ("faster_rcnn --train.learning-rate nan", "--train.learning-rate nan: give a number above 0"),
    ("faster_rcnn --train.learning-rate inf", "--train.learning-rate inf: give a number above 0"),
    ("faster_rcnn --train.momentum 1", "--train.momentum 1: give a number from 0 to below 1"),
    ("faster_rcnn --train.milestones -1 2", "--train.milestones -1 2: give for each value 0 or more"),
    ("faster_rcnn --augment.hflip 2", "augment.hflip is 2: give a number from 0 to 1"),
    ("faster_rcnn --augment.scale 2 1", "augment.scale is 2 1: give the smaller value first"),
    ("faster_rcnn --augment.scale 1 inf", "augment.scale is 1 inf: give for each value a number above 0"),
    ("faster_rcnn --augment.color nan", "augment.color is nan"),
    ("mask_rcnn --anchor-sizes 16 32", "--anchor-sizes 16 32: give 5 values, one for each level"),
    ("mask_rcnn --neck c4 --anchor-sizes", "--anchor-sizes (no value): give one value or more"),
    ("mask_rcnn --mask-features 0", "--mask-features 0: give 1 or more"),
    ("proposals --anchor-sizes 16", "--anchor-sizes 16: give 5 values"),
    ("roi_align_vs_roi_pool --anchor-sizes 0", "--anchor-sizes 0: give for each value a number above 0"),
    ("segmenter --widths 16 0", "--widths 16 0: give for each value 1 or more"),
    ("segmenter --dice -1", "--dice -1: give 0 or more"),
    ("segmenter --class-weights 1 -1", "--class-weights 1 -1: give for each value 0 or more"),
    (
        "segmenter --class-weights 0 0",
        "class_weights is (0.0, 0.0): give numbers, of which one at least is",
    ),
    ("small_cnn --widths", "--widths (no value): give one value or more"),
    ("image_classifier --label-smoothing 1", "--label-smoothing 1: give a number from 0 to below 1"),
    ("inception_vs_inception_resnet --width 0", "--width 0: give a number above 0"),
    ("full_resolution --depth 0", "--depth 0: give 1 or more"),
    ("upsampling --size 0", "--size 0: give 1 or more"),
    ("colocalizer --sides 0.5 0.2", "--sides 0.5 0.2: give the smaller value first"),
    ("colocalizer --images 0", "--images 0: give 1 or more"),
    ("colocalizer --apart-steps 0", "--apart-steps 0: give 1 or more"),
    ("fcn_skips --staged --train.steps 2", "--train.steps 2: give 3 or more, one a stage"),
]


@pytest.mark.parametrize(("words", "told"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_number_that_cannot_be_is_told_at_the_start(words, told, tmp_path, capsys):
    name, *rest = words.split()
    out = tmp_path / "run"
    # A folder that is not there would be the next mistake: nothing has looked at it yet.
    data = ["--data", "coco:nowhere"]
    assert main(["train", WORDS[name], *rest, *data, "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert "Traceback" not in message
    assert not out.exists()


def test_how_many_classes_to_print_is_checked_too(capsys):
    words = ["--model", "resnet18", "--weights", "nowhere.pth", "--best", "0"]
    assert main(["predict", "nowhere.jpg", *words]) == 2
    assert "--best 0: give 1 or more" in capsys.readouterr().err


def numbers_without_a_rule(hint, where):
    """The parts of an option's type that are bare numbers."""
    if typing.get_origin(hint) is typing.Annotated:
        inner, *rules = typing.get_args(hint)
        if any(isinstance(rule, Limits) for rule in rules):
            return []
        return numbers_without_a_rule(inner, where)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        return [w for name, h in hints.items() for w in numbers_without_a_rule(h, f"{where}.{name}")]
    if hint in (int, float):
        return [where]
    if typing.get_origin(hint) is typing.Literal:
        return []
    return [w for member in typing.get_args(hint) for w in numbers_without_a_rule(member, where)]


def function_of(name):
    if name not in SCRIPTS:
        return load_experiment(find_origin(WORDS[name]))
    spec = importlib.util.spec_from_file_location(name, STUDIES[name])
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up here
    spec.loader.exec_module(module)
    return getattr(module, SCRIPTS[name])


@pytest.mark.parametrize("name", [*WORDS, *STUDIES])
def test_every_number_of_every_experiment_has_a_rule(name):
    function = function_of(name)
    assert f"check_options({function.__name__}, locals())" in inspect.getsource(function)
    hints = typing.get_type_hints(function, include_extras=True)
    del hints["return"]
    assert [w for option, hint in hints.items() for w in numbers_without_a_rule(hint, option)] == []


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("mask_targets", ["--cells", "0"], "--cells 0: give 1 or more"),
        ("checkerboards", ["--seeds", "0"], "--seeds 0: give 1 or more"),
        ("film", ["--out", "there", "--steps", "0"], "--steps 0: give 1 or more"),
    ],
)
def test_scripts_tell_without_a_traceback(name, words, told, capsys, monkeypatch):
    assert f"run_script({SCRIPTS[name]})" in STUDIES[name].read_text()
    monkeypatch.setattr("sys.argv", [f"{name}.py", *words])
    with pytest.raises(SystemExit) as left:
        run_script(function_of(name))
    assert left.value.code == 2
    assert f"{name}.py: {told}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: FasterRCNN(MLPHead(), 0), "FasterRCNN.num_classes is 0: give 1 or more"),
        (lambda: FasterRCNN(MLPHead(), 3, rois_per_image=0), "FasterRCNN.rois_per_image is 0"),
        (lambda: FasterRCNN(MLPHead(), 3, score_threshold=math.nan), "FasterRCNN.score_threshold is nan"),
        (lambda: FasterRCNN(MLPHead(), 3).clone(test_proposals=(0, 3)), "FasterRCNN.test_proposals is 0 3"),
        (lambda: FPN(0), "FPN.features is 0"),
        (lambda: MLPHead(-1), "MLPHead.features is -1"),
        (lambda: RPN((8.0, 0.0)), "RPN.sizes is (8.0, 0.0)"),
        (lambda: RPN(((8.0,), (8.0, 16.0))), "give each level equally many"),
        (lambda: RPN(aspect_ratios=(0.0, 1.0)), "RPN.aspect_ratios is 0 1"),
        (lambda: RPN((8.0, 16.0)).anchors([], (64, 64)), "of 2 levels, but there are 0 feature maps"),
        (lambda: SmallCNN(3, ()), "SmallCNN.widths is (no value): give one value or more"),
        (lambda: UNet(3, (8, 0)), "UNet.widths is 8 0"),
        (lambda: Augment(vflip=-0.5), "augment.vflip is -0.5"),
        (lambda: Distortion(42, scale=(0.0, 1.0)), "distortion.scale is 0 1"),
        (lambda: Distortion(42, distractors=-1), "distortion.distractors is -1"),
        (lambda: check_config(TrainConfig(ema=1.0)), "train.ema is 1: give a number from 0 to below 1"),
    ],
)
def test_models_and_settings_made_from_python_are_checked(make, told):
    with pytest.raises(UserError) as error:
        make()
    assert told in str(error.value)


def scale(widths: tuple[Count, ...], part: Fraction | None = None, sizes: Sequence[Count] = (1,)) -> float:
    check_options(scale, locals())
    return sum(widths) * (part or 1) * len(sizes)


def test_a_checked_function_takes_what_its_types_allow():
    assert scale((1, 2)) == 3
    assert scale((np.int64(2),), part=np.float32(0.5)) == 1  # pyright: ignore
    assert scale((), part=0.0, sizes=[4, 5]) == 0
    for bad in (((1, 0), 1.0), ((1,), 1.5), ((1,), True), ((1,), "a")):
        with pytest.raises(UserError, match=r"--(widths|part)"):
            scale(*bad)
    with pytest.raises(UserError, match="--sizes 4 0: give for each value 1 or more"):
        scale((1,), sizes=[4, 0])
