"""Data by a short text: which tasks and options a format states, and that opening one imports no other."""

import gzip
import inspect
import subprocess
import sys

import numpy as np
import pytest

from vision_jax.data.family import family_named
from vision_jax.data.formats import coco, folders, idx, records, synthetic, tfds, voc
from vision_jax.data.open import location_of, usual_task
from vision_jax.types import UserError

FORMATS = {
    kind: format
    for room in (coco, folders, idx, records, synthetic, tfds, voc)
    for kind, format in room.FORMATS.items()
}

PROGRAM = """
import sys
from vision_jax.data.family import family_named
from vision_jax.data.open import open_data

for step in sys.argv[1:]:
    task, _, spec = step.partition(" ")
    if spec:
        open_data(family_named(task), spec)
    names = {name.split(".")[3] for name in sys.modules if name.startswith("vision_jax.data.formats.")}
    print(*sorted(names))
"""


def test_what_a_spec_is_for_and_where_it_lies(tmp_path):
    assert usual_task("coco:x") == usual_task("synthetic?seed=1") == usual_task("tfds:x") == "detection"
    assert usual_task("folder:x") == usual_task("digits") == "classification"
    assert usual_task("labels:x?classes=3") == "segmentation"
    with pytest.raises(UserError, match=r"data 'unheard:x': expected coco:DIR, .*digits, synthetic"):
        usual_task("unheard:x")
    assert location_of("synthetic?seed=1") is None
    assert location_of(f"voc:{tmp_path}?val=test") == tmp_path


@pytest.mark.parametrize(("kind", "task"), [(kind, task) for kind in FORMATS for task in FORMATS[kind].tasks])
def test_every_option_that_a_format_states_is_one_of_its_opener(kind, task):
    opener = FORMATS[kind].tasks[task]
    assert family_named(task).name == task
    options = {"count" if name == "classes" else name: None for name in opener.options}
    given = {"classes": None, **options} if FORMATS[kind].has_location else options
    inspect.signature(opener.open).bind(*["location"] * FORMATS[kind].has_location, **given)


def test_opening_a_format_imports_no_other(folders):
    root = folders.root
    folders.coco()
    folders.voc("a", ("cat", (1, 1, 5, 5)))
    for name in ("0", "1"):
        folders.image(f"classes/train/{name}/x.png")
        folders.image(f"classes/val/{name}/x.png")
    for prefix in ("train", "t10k"):
        for name, values in (("images-idx3", np.zeros((2, 4, 4))), ("labels-idx1", np.arange(2))):
            head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
            content = gzip.compress(head + values.astype(np.uint8).tobytes())
            (root / f"{prefix}-{name}-ubyte.gz").write_bytes(content)
    steps = {
        "import alone": "detection",
        "voc": f"detection voc:{root}",
        "idx": f"classification idx:{root}",
        "folders": f"classification folder:{root}/classes",
        "coco": f"instances coco:{root}/data.json",
        "synthetic": "classification digits",
    }
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM, *steps.values()], check=True, capture_output=True, text=True
    )
    asked = list(steps)[1:]
    assert program.stdout.splitlines() == [" ".join(sorted(asked[:n])) for n in range(len(steps))]
