"""What does downsampling save?  (CS231n, "Detection and segmentation".)

    vision-jax sweep experiments/segmentation/full_resolution --data labels:FOLDER

A network that never downsamples against one that goes down to stride 8 and up again by interpolation, both
trained for ever more steps: operations, memory and seconds of a step stand beside the mIoU that was reached,
so that both can be read off at equal mIoU. Measured: result.md.

A function of its own: both arms get widths and a depth of their own, under one name each, and are evaluated
in one way only.
"""

from __future__ import annotations

from typing import Literal

from vision_jax.data.transforms.augment import Augment
from vision_jax.models.segmentation.encoder_decoder import EncoderDecoder
from vision_jax.models.segmentation.full_resolution import FullResolution
from vision_jax.models.segmentation.segmenter import Segmenter
from vision_jax.sweeps import Claim, grid
from vision_jax.tasks import SegmentationTask
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, Filled, Seed, SegmentationSpec, check_options


def experiment(
    network: Literal["full_resolution", "down_and_up"] = "down_and_up",
    data: str = "synthetic",
    canvas: tuple[Count, Count] | None = None,
    width: Count = 32,
    depth: Count = 8,
    widths: Filled[Count] = (32, 64, 128),
    augment: Augment = Augment(scale=(0.75, 1.5)),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=400, batch_size=8, optimizer="adamw", learning_rate=3e-3, weight_decay=1e-2, warmup_steps=20
    ),
) -> Experiment:
    """Trains one of the two.

    Args:
        network: which.
        data: `labels:FOLDER` of images and label PNGs, or `synthetic`.
        canvas: long and short side, in pixels, that images are resized into; from the data if None.
        width: channels of the network at full resolution.
        depth: its layers.
        widths: channels of the stages of the other.
        augment: how training images are varied.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())

    def model(spec: SegmentationSpec) -> Segmenter:
        if network == "full_resolution":
            return Segmenter(FullResolution(len(spec.classes), width, depth))
        return Segmenter(EncoderDecoder(len(spec.classes), widths, upsampling="bilinear"))

    return Experiment(
        model=model, task=SegmentationTask(data, canvas, augment), stages=(Gradient(train),), seed=seed
    )


SWEEP = [
    *grid({"train.steps": [50, 100, 200, 400]}, network=["full_resolution", "down_and_up"], seed=[0]),
    # The numbers of steps that claims rest on have three seeds.
    *grid({"train.steps": [100, 400]}, network=["full_resolution", "down_and_up"], seed=[1, 2]),
]

METRICS = ("mIoU", "pixel_accuracy")

CLAIMS = [
    Claim(
        f"after {steps} steps the network that downsamples is ahead",
        "mIoU",
        worse={"network": "full_resolution"},
        better={"network": "down_and_up"},
        where={"train.steps": steps},
    )
    for steps in (100, 400)
]
