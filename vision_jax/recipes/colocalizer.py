"""Co-localization by a spatial transformer (Jaderberg et al. 2015, appendix A.2).

    vision-jax train colocalizer --data idx:FOLDER --digit 3 --distractors 16    # MNIST's four files
    vision-jax train colocalizer                                    # scikit-learn's 1,797 small digits

A hundred images of one digit, each somewhere on 84 x 84 pixels, alone (T) or among 16 parts of other digits
(TC). First the encoder learns to classify upright digits in their frames; then the localizer looks for
whatever is unlike the rest of its image; then for what is alike in all images. `recall50`: the fraction of
boxes with an IoU of at least 0.5 with the digit's frame.

Other than in the paper, a box's side is bounded from a digit's frame, a third of the image's, to 0.45: the
loss is lower still for a smaller crop of the same part of each digit. The localizer is twice as wide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import jax
import numpy as np

from vision_jax.layers.images import gray
from vision_jax.models.spatial_transformers.colocalizer import CoLocalizer, CropEncoder
from vision_jax.models.spatial_transformers.transformed_classifier import Convolutional
from vision_jax.tasks import ClassificationTask, ColocalizationTask
from vision_jax.training.bare import bare_training
from vision_jax.training.experiment import Experiment, Fit, Gradient, TrainConfig
from vision_jax.types import Count, PositiveFraction, Rising, Seed, UserError, Whole, check_options


def experiment(
    digit: str = "8",
    distractors: Whole = 0,
    data: str = "digits",
    images: Count = 100,
    sides: Annotated[tuple[PositiveFraction, PositiveFraction], Rising()] = (0.334, 0.45),
    encoder_steps: Count = 800,
    apart_steps: Count = 300,
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=700,
        batch_size=50,
        optimizer="adamw",
        learning_rate=1e-3,
        log_every=50,
    ),
) -> Experiment:
    """Trains one localizer.

    Args:
        digit: which.
        distractors: 6 x 6 parts of other digits in each image.
        data: `idx:FOLDER` (MNIST's format) or `digits`.
        images: how many there are of the digit.
        sides: the least and the greatest side of a box, as fractions of the image's.
        encoder_steps: of training the encoder.
        apart_steps: of telling crops from the rest of their image, before crops' likeness counts.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train with the full loss.
    """
    check_options(experiment, locals())
    return Experiment(
        model=lambda spec: CoLocalizer(Convolutional((16,), (9,), (32, 32), stride=4), sides=sides),
        task=ColocalizationTask(data, digit, images, distractors),
        stages=(
            Fit("encoder", _learn_encoder(data, encoder_steps, seed)),
            Gradient(replace(train, steps=apart_steps), "apart", lambda model: model.copy(agreement=0.0)),
            Gradient(train, "alike"),
        ),
        seed=seed,
    )


def _learn_encoder(data: str, steps: int, seed: int) -> Callable[..., Any]:
    def fit(model: Any, variables: Any, unlabeled: Any, key: Any, progress: Callable[..., None]) -> Any:
        """Trains the encoder; `scale` makes the mean square of what it has learned 1."""
        encoder: CropEncoder = model.encoder
        opened = ClassificationTask(data, (model.size, model.size)).open(None)
        if len(opened.spec.classes) != encoder.num_classes:
            raise UserError(f"{data} has {len(opened.spec.classes)} classes, not {encoder.num_classes}")
        config = TrainConfig(
            steps=steps, batch_size=128, optimizer="adamw", learning_rate=1e-3, weight_decay=1e-2
        )
        batches = opened.train(config.batch_size, seed, 0)
        learned: Any = None
        for done, variables_now in enumerate(bare_training(encoder, config, batches, seed)):
            learned = variables_now
            progress(done, steps, "steps")
        some = next(opened.train(256, seed, 0))
        layers = jax.jit(encoder.apply)(learned, gray(some.image))
        square = sum(float((np.asarray(layer) ** 2).sum(-1).mean()) for layer in layers)
        params = {**variables["params"], "encoder": learned["params"], "scale": np.float32(np.sqrt(square))}
        return jax.device_get({**variables, "params": params})

    return fit
