"""A language model of a folder's strings.

vision-jax train tests/strings/recipe.py --data FOLDER
vision-jax sample RUN --count 64
"""

from tests.strings.model import StringLSTM
from tests.strings.task import StringTask
from vision_jax.sweeps import grid
from vision_jax.training.experiment import Evaluation, Experiment, Gradient, TrainConfig


def experiment(
    data: str,
    lengths: tuple[int, ...] | None = None,
    features: int = 32,
    temperature: float = 0.0,
    seed: int = 0,
    train: TrainConfig = TrainConfig(
        steps=90, batch_size=16, optimizer="adamw", learning_rate=1e-2, warmup_steps=10
    ),
) -> Experiment:
    """Trains one model.

    Args:
        data: folder with train.txt and val.txt, a string a line.
        lengths: of the buckets, ascending; from the training strings if None.
        features: of the LSTM.
        temperature: of sampling; 0 takes the most probable characters.
        seed: of all random numbers.
        train: how long and how to train.
    """
    return Experiment(
        model=lambda spec: StringLSTM(len(spec.vocabulary), features, temperature),
        task=StringTask(data, lengths),
        stages=(Gradient(train),),
        seed=seed,
        evaluations={"nll": Evaluation(predict=False, examples=8)},
    )


SWEEP = grid(features=[4, 32])
METRICS = ("nll",)
