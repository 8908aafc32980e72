"""The table of systems in README.md, made from what the repository holds.

    uv run python docs/systems.py        # writes it between the two markers

A row's paper is read from the docstring of the system's module, the verdicts on its claims from the result
pages of `experiments/`, and whether torch or torchvision is the reference from the parity test's imports.
What cannot be read anywhere stands in `SYSTEMS`: which of them belong together, and what the test compares.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vision_jax.sweeps.index import verdicts_of

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
BEGIN, END = "<!-- systems: made by docs/systems.py -->\n", "<!-- end of systems -->\n"


@dataclass(frozen=True)
class Row:
    """A system.

    Attributes:
        name: as the literature has it.
        module: its file in `vision_jax`, without .py.
        recipe: what stands after `vision-jax train`.
        experiments: folders in `experiments`.
        parity: a test file in `tests` marked `peers`, without .py; none if empty.
        equal: what that test finds equal.
    """

    name: str
    module: str
    recipe: str
    experiments: tuple[str, ...] = ()
    parity: str = ""
    equal: str = ""


def _classifier(name: str, backbone: str, network: str, equal: str = "logits, maps, gradients") -> Row:
    """A classifier whose weights torchvision has."""
    recipe = f"image_classifier --network {network}"
    return Row(name, f"backbones/{backbone}", recipe, (), "pretrained/test_torchvision_peers", equal)


_UNPOOLING = ("ops/test_pooling_peers", "max unpooling")
_SAMPLING = ("ops/test_sampling_peers", "grids, sampling, gradients")

SYSTEMS = (
    Row(
        "Faster R-CNN",
        "models/detection/two_stage/faster_rcnn",
        "faster_rcnn",
        ("detection/faster_rcnn_on_bccd", "detection/proposals", "detection/pretraining"),
        "models/detection/test_faster_rcnn_peers",
        "features, proposals, losses, detections",
    ),
    Row(
        "Mask R-CNN",
        "models/instance/mask_rcnn",
        "mask_rcnn",
        (
            "instance/mask_rcnn_on_scenes",
            "instance/roi_align_vs_roi_pool",
            "instance/precision_and_mask_targets",
        ),
        "models/instance/test_mask_rcnn_peers",
        "losses, masks",
    ),
    Row(
        "FCN-32s, 16s, 8s",
        "models/segmentation/fcn",
        "segmenter --network fcn_8s",
        ("segmentation/fcn_skips",),
        "pretrained/test_segmentation_peers",
        "scores, statistics",
    ),
    Row(
        "SegNet, SegNet-Basic",
        "models/segmentation/segnet",
        "segmenter --network segnet",
        ("segmentation/upsampling",),
        *_UNPOOLING,
    ),
    Row("DeconvNet", "models/segmentation/deconvnet", "segmenter --network deconvnet", (), *_UNPOOLING),
    Row("U-Net", "models/segmentation/unet", "segmenter", ("segmentation/unet_on_camvid",)),
    Row(
        "convolutions at full resolution",
        "models/segmentation/full_resolution",
        "segmenter --network full_resolution",
        ("segmentation/full_resolution",),
    ),
    _classifier("AlexNet", "alexnet", "alexnet", "logits, maps"),
    _classifier("VGG-11 to 19", "vgg", "vgg16"),
    _classifier("GoogLeNet", "googlenet", "googlenet", "logits, maps"),
    _classifier("ResNet-18 to 152", "resnet", "resnet18"),
    _classifier("MobileNet v2, v3", "mobilenet", "mobilenet_v2"),
    Row("Inception v2", "backbones/inception_v2", "image_classifier --network inception_v2"),
    _classifier("Inception v3", "inception", "inception_v3", "logits, maps"),
    Row(
        "Inception v4, Inception-ResNet v1, v2",
        "backbones/inception_v4",
        "image_classifier --network inception_v4",
        ("classification/inception_vs_inception_resnet",),
    ),
    Row(
        "small CNN, batch or group norm",
        "models/classification/small_cnn",
        "small_cnn",
        ("classification/norm_and_batch_size",),
    ),
    Row(
        "classifiers behind spatial transformers",
        "models/spatial_transformers/transformed_classifier",
        "spatial_transformer_classifier",
        ("spatial_transformers/distorted_digits",),
        *_SAMPLING,
    ),
    Row(
        "two transformers that add digits",
        "models/spatial_transformers/spatial_transformer",
        "digit_addition",
        ("spatial_transformers/two_transformers",),
        *_SAMPLING,
    ),
    Row(
        "co-localization",
        "models/spatial_transformers/colocalizer",
        "colocalizer",
        ("spatial_transformers/colocalization",),
        *_SAMPLING,
    ),
)


def systems_table() -> str:
    """The rows as Markdown, and under them the number of verdicts of each kind."""
    heads = ["system", "paper", "`vision-jax train`", "claims, as measured", "equal to the reference"]
    counts: Counter[str] = Counter()
    rows = []
    for row in SYSTEMS:
        source = f"[{row.name}](vision_jax/{row.module}.py)"
        measured = [_verdicts(name, counts) for name in row.experiments]
        cells = [source, _papers(row.module), f"`{row.recipe}`", "; ".join(measured), _parity(row)]
        rows.append(_line(cell or "–" for cell in cells))
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    table = "\n".join([_line(heads), _line("---" for _ in heads), *rows])
    return f"{table}\n\nOf all claims: {total}.\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def readme_with(table: str) -> str:
    """The text of README.md with a table between its markers."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{README} lacks the line {BEGIN.strip()} or {END.strip()}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _papers(module: str) -> str:
    """Authors and years that stand in parentheses in the first paragraph of a module's docstring."""
    text = ast.get_docstring(ast.parse((REPOSITORY / f"vision_jax/{module}.py").read_text())) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    groups = re.findall(r"\(([^()]*\d{4}[^()]*)\)", first)
    years = [re.match(r"[A-Z][^\d]*\d{4}", part.strip()) for group in groups for part in group.split(";")]
    return "; ".join(found.group() for found in years if found)


def _verdicts(name: str, counts: Counter[str]) -> str:
    """A link to an experiment, and how many of its claims came out how; adds these up."""
    page = REPOSITORY / f"experiments/{name}/result.md"
    found = Counter(row["as measured"].partition(":")[0] for row in verdicts_of(page))
    counts.update(found)
    said = ", ".join(f"{count} {verdict}" for verdict, count in found.most_common()) or "figures"
    return f"[{page.parent.name}]({page.relative_to(REPOSITORY)}): {said}"


def _parity(row: Row) -> str:
    """Whose numbers, a link to the test, and which."""
    if not row.parity:
        return ""
    path = f"tests/{row.parity}.py"
    whose = "torchvision" if "torchvision" in (REPOSITORY / path).read_text() else "torch"
    return f"[{whose}]({path}): {row.equal}"


if __name__ == "__main__":
    README.write_text(readme_with(systems_table()))
