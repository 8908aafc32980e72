"""Do residual connections make Inception learn faster?  (Szegedy et al. 2017, section 4, figures 20 to 25.)

    vision-jax sweep experiments/classification/inception_vs_inception_resnet --data idx:FOLDER

The paper trains Inception v4 and Inception-ResNet v2 at about the same cost: the residual one learns much
faster, and both end at about the same error. Here both have an eighth of the paper's channels and about half
of its modules, and learn MNIST's digits, enlarged to 80 x 80, for 100, 400 and 1,600 steps, each with a
schedule of its own. RMSProp, label smoothing and dropout are the paper's; both networks do best with this
learning rate of five. Measured: result.md.

A function of its own: the recipe `image_classifier` has the networks at their papers' widths and depths only.
"""

from __future__ import annotations

from typing import Literal

from vision_jax.backbones.inception_v4 import InceptionResNet, InceptionV4
from vision_jax.data.transforms.augment import Augment
from vision_jax.models.classification.image_classifier import AverageHead, ImageClassifier
from vision_jax.sweeps import Claim, grid
from vision_jax.tasks import ClassificationTask
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, Positive, Seed, check_options


def experiment(
    network: Literal["inception_v4", "inception_resnet_v2"] = "inception_resnet_v2",
    data: str = "digits",
    canvas: tuple[Count, Count] | None = (80, 80),
    width: Positive = 0.125,
    plain_blocks: tuple[Count, Count, Count] = (2, 4, 2),
    residual_blocks: tuple[Count, Count, Count] = (3, 5, 3),
    residual_scale: Positive = 0.17,
    augment: Augment = Augment(hflip=0, scale=(0.8, 1.2)),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=400,
        batch_size=32,
        optimizer="rmsprop",
        learning_rate=0.1,
        weight_decay=0.0,
        warmup_steps=20,
        eval_every=0,
    ),
) -> Experiment:
    """Trains one of the two.

    Args:
        network: which.
        data: `idx:FOLDER` (MNIST's format), `folder:FOLDER` (a folder of images for each class) or `digits`.
        canvas: long and short side in pixels that images are resized into, 75 at least.
        width: of every layer, as a fraction of the paper's.
        plain_blocks: modules of each grid of Inception v4; the paper's are 4, 7, 3.
        residual_blocks: of Inception-ResNet v2; the paper's are 5, 10, 5.
        residual_scale: of what a residual module adds.
        augment: how training images are varied.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    if network == "inception_v4":
        backbone = InceptionV4(plain_blocks, width=width)
    else:
        backbone = InceptionResNet("v2", residual_blocks, residual_scale, width=width)
    return Experiment(
        model=lambda spec: ImageClassifier(
            backbone, len(spec.classes), AverageHead(0.2), label_smoothing=0.1
        ),
        task=ClassificationTask(data, canvas, augment),
        stages=(Gradient(train),),
        seed=seed,
    )


SWEEP = grid(
    {"train.steps": [100, 400, 1600]}, network=["inception_v4", "inception_resnet_v2"], seed=range(3)
)

METRICS = ("accuracy",)

CLAIMS = [
    Claim(
        f"after {steps} steps the residual network is ahead",
        "accuracy",
        worse={"network": "inception_v4"},
        better={"network": "inception_resnet_v2"},
        where={"train.steps": steps},
    )
    for steps in (100, 400, 1600)
]
