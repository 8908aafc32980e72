"""A folder in which the commands of the guides can be run: small data of every layout, weights, a run."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tests.data.conftest import COCO, Folders
from tests.paths import EXPERIMENTS
from tests.pretrained.conftest import write_safetensors
from vision_jax.cli import main
from vision_jax.pretrained.torchvision import ARCHITECTURES, to_torchvision

ONE_STEP = "--train.steps 1 --train.batch-size 2 --devices 1"
DETECTOR = f"--canvas 64 48 --fpn-features 16 --head-features 16 {ONE_STEP}"


def make_world(root: Path) -> None:
    """Writes it; the current folder must be `root`."""
    voc = Folders(root / "voc")
    for name in ("a", "b", "c"):
        voc.voc(name, ("cell", (2, 2, 12, 14)))
    (root / "voc/SegmentationClass").mkdir()
    for name in ("a", "b", "c"):
        voc.map(f"SegmentationClass/{name}.png", np.arange(600).reshape(20, 30) // 300)
    voc.lists(train=["a", "b"], val=["c"])
    voc.lists("Segmentation", train=["a", "b"], val=["c"])
    coco, labels, folder = Folders(root / "coco"), Folders(root / "labels"), Folders(root / "folder")
    for split in ("train", "val"):
        for image in COCO["images"]:
            coco.image(f"{split}2017/{image['file_name']}")
        (root / "coco/annotations").mkdir(exist_ok=True)
        (root / f"coco/annotations/instances_{split}2017.json").write_text(json.dumps(COCO))
        for name in "ab":
            labels.image(f"images/{split}/{name}.png", (48, 64))
            labels.map(f"labels/{split}/{name}.png", np.arange(48 * 64).reshape(48, 64) // 1536)
        for label in ("ant", "bee"):
            folder.image(f"{split}/{label}/1.png", (40, 50))
    (root / "labels/classes.txt").write_text("road\nsky\n")
    Folders(root).image("image.jpg", (40, 60), 90)
    np.zeros((128, 192, 3), np.uint8).tofile(root / "mosaic.raw")
    (root / "script.py").write_text("import os; assert 'hugetlb=1' in os.environ['GLIBC_TUNABLES']\n")
    network = ARCHITECTURES["resnet18"]().build(1000)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, method="scores"), image)
    zeros = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.01, np.float32), shapes)
    write_safetensors(root / "resnet18.pth", to_torchvision("resnet18", zeros))
    shutil.copytree(EXPERIMENTS, root / "experiments", ignore=shutil.ignore_patterns("*.png", "*.gif"))
    assert main(["train", "faster_rcnn", "--data", "voc:voc", *DETECTOR.split(), "--out", "runs/NAME"]) == 0
