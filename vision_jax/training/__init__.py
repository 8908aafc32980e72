"""The experiment's definition, the step, the loop, schedules, checkpoints and the run folder.

It knows no model by name: models reach it as Flax modules with `loss` and `predict`, evaluators and
plots as methods of a `Task`.
"""

from vision_jax.training.experiment import (
    Alternate,
    Batch,
    BatchIterator,
    Cache,
    Data,
    Evaluation,
    Evaluator,
    Experiment,
    Fit,
    Gradient,
    Player,
    Predictions,
    Task,
    TrainConfig,
)
from vision_jax.training.features import WithFeatures
from vision_jax.training.loop import fit
from vision_jax.training.predict import evaluate, load_variables, predictor, read_experiment_json
from vision_jax.training.stopping import Stopped

__all__ = [
    "Alternate",
    "Batch",
    "BatchIterator",
    "Cache",
    "Data",
    "Evaluation",
    "Evaluator",
    "Experiment",
    "Fit",
    "Gradient",
    "Player",
    "Predictions",
    "Stopped",
    "Task",
    "TrainConfig",
    "WithFeatures",
    "evaluate",
    "fit",
    "load_variables",
    "predictor",
    "read_experiment_json",
]
