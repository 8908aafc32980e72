"""Runs every command and every block of Python that a page shows.

Commands run as they stand but for `REWRITTEN`, which puts small data in the place of FOLDER and makes
trainings one step of a narrow model.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.docs.pages import shown
from tests.docs.world import DETECTOR, ONE_STEP
from tests.paths import REPOSITORY
from tests.programs import drop_programs
from vision_jax import TrainConfig
from vision_jax.cli import main

SCENES = "--data 'synthetic?length=4&val_length=2&canvas=64'"
# Applied in turn to a command; options that stand later win.
REWRITTEN = [
    (r"^pip install uv && ", ""),
    (r"^(?:srun|gcloud) .*?(vision-jax [^\"]*)\"?$", r"\1"),  # as one of many processes: test_distributed.py
    (r"runs/pair(.* --process 1)$", r"runs/pair_1\1"),
    (r" --distributed \S+( --processes \d+ --process \d)?", ""),
    (r"\buv run( --extra \w+)? ", ""),
    (r"\b(voc|coco|labels|folder):FOLDER", r"\1:\1"),
    (r"^(vision-jax (?:train|show) mask_rcnn)(?!.* --data)(?!.*--help)", rf"\1 {SCENES}"),
    (r"^(vision-jax train faster_rcnn)(?!.* --data)", rf"\1 {SCENES}"),
    (r"^(vision-jax train (?:faster|mask)_rcnn(?!.*--help).*)$", rf"\1 {DETECTOR}"),
    (r"^(vision-jax show mask_rcnn --data 'synth.*)$", r"\1 --canvas 64 48 --fpn-features 16"),
    (r"^(vision-jax train segmenter.*)$", rf"\1 {ONE_STEP} --canvas 64 48"),
    (r"^(vision-jax train segmenter(?!.*--network).*)$", r"\1 --widths 4 4 4"),
    (r"^(vision-jax train segmenter.*segnet_basic.*)$", r"\1 --widths 4"),
    (r"^(vision-jax train image_classifier.*)$", rf"\1 {ONE_STEP} --canvas 32 32"),
    (r"^(vision-jax train softmax.py.*)$", r"\1 --train.steps 60 --devices 1 --out runs/softmax"),
    (r"^(vision-jax train --resume .*)$", r"\1 --devices 1"),
    (r"^(vision-jax evaluate .*)$", r"\1 --devices 1"),
    (r"^(vision-jax sweep norms.py.*)$", r"\1 --vary seed=0 --widths 4 --train.steps 2 --threads 1"),
    (
        r"^(vision-jax sweep experiments/instance/roi_align_vs_roi_pool --workers 2)$",
        rf"\1 --vary stride=32 --vary roi=pool --vary seed=0 {SCENES} --canvas 64 48 --head-features 16 "
        "--mask-features 16 --train.steps 1 --train.batch-size 2",
    ),
    (r"^(vision-jax sweep experiments/.*--train.steps 300.*)$", r"\1 --dry-run"),
    (r"^(vision-jax benchmark) --peers", r"\1"),  # test_cases_peers.py
    (r"^(vision-jax benchmark.*?) roi_align nms", r"\1 nms"),
    (r"^(vision-jax benchmark.*)$", r"\1 --rounds 1"),
    (r"^(ruff|pytest)\b(.*)$", rf"cd {REPOSITORY} && \1\2"),
    (r"ruff check --fix", "ruff check"),
    (r"ruff format", "ruff format --check"),
    (r"pytest(?: -m (\"[^\"]*\"|\w+))?$", r"pytest -q --numprocesses 0 --collect-only tests/test_words.py"),
]
# What .ci/run does too, from nothing or for minutes.
IN_CI = ("uv sync", "uv run pyright", "uv run lint-imports", ".ci/run")
# No recipe predicts without input: the command says so.
REFUSED = {"vision-jax sample runs/NAME --count 64": "vision-jax predict"}
# Likewise in Python; names that stand for a reader's own.
CODE = [
    (r"voc:FOLDER", "voc:voc"),
    (r"labels:FOLDER", "labels:labels"),
    (r"canvas=\(320, 256\)\), \"runs/mine\"", 'canvas=(64, 48), **NARROW), "runs/python", devices=1'),
    (r"segmenter\(data", "segmenter(canvas=(64, 48), widths=(4, 4, 4), data"),
    (r"40_000, 60_000", "128, 192"),
    (r"\(512, 512\), overlap=96", "(64, 64), overlap=16"),
]
NARROW = {"fpn_features": 16, "head_features": 16, "train": TrainConfig(steps=1, batch_size=2)}
NAMES = {
    "NARROW": NARROW,
    "x": np.zeros((1, 64, 64, 3), np.float32),
    "image": np.zeros((40, 60, 3), np.uint8),
}


def rewritten(text, rules):
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text


def run_command(command, capsys):
    """In this process where it is a command of ours, else by a shell beside this Python."""
    if command in IN_CI:
        assert command.removeprefix("uv run ") in (REPOSITORY / ".ci/run").read_text() or command == ".ci/run"
        return
    text = rewritten(command, REWRITTEN)
    if text in REFUSED:
        assert main(shlex.split(text)[1:]) == 2
        assert REFUSED[text] in capsys.readouterr().err
    elif text.startswith("vision-jax "):
        try:
            code = main(shlex.split(text)[1:])
        except SystemExit as end:  # --help
            code = end.code
        drop_programs()
        assert not code, f"{text}: {capsys.readouterr().err[-2000:]}"
    else:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(text, shell=True, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


def run_page(page, capsys):
    """In the order in which they stand; the current folder is that of the fixture `world`."""
    for run_folder in Path("runs").iterdir():
        if run_folder.name != "NAME":  # what another page left
            shutil.rmtree(run_folder)
    for each in shown(page):
        if each.language == "bash":
            run_command(each.text, capsys)
        elif each.file:
            Path(each.file).write_text(each.text)
        else:
            exec(compile(rewritten(each.text, CODE), page.name, "exec"), dict(NAMES))
