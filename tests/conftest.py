"""Eight virtual CPU devices, every signature's shapes checked, and what tests cost."""

import os
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    # Compiling takes most of a test's time, and the models are tiny.
    + " --xla_backend_optimization_level=0"
    # A third less again. XLA refuses flags that it does not know, as a later one may not know this.
    + (" --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else "")
    + " --xla_cpu_collective_call_terminate_timeout_seconds=600"
    + " --xla_cpu_collective_call_warn_stuck_timeout_seconds=300"
)

import jax

jax.config.update("jax_num_cpu_devices", 8)
assert jax.device_count() == 8

import sys  # noqa: E402
from types import ModuleType  # noqa: E402

from beartype import BeartypeConf, beartype  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

from tests.timing import Timing  # noqa: E402

# An int is a float here, as it is for type checkers.
checker = ModuleType("vision_jax_checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # pyright: ignore
sys.modules[checker.__name__] = checker

# Functions and methods, not the structs of vision_jax.types: vmap and eval_shape build those of other things.
ROOMS = (
    *("ops", "layers", "backbones", "models", "data", "training", "evaluation", "visualization"),
    *("tasks", "benchmarks", "pretrained"),
)
install_import_hook([f"vision_jax.{room}" for room in ROOMS], "vision_jax_checker.check")

# Rooms whose files take minutes: begun first, so that no process is left with one when the others are done.
LONG = ("models", "sweeps", "training", "benchmarks")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def pytest_configure(config):
    config.pluginmanager.register(Timing(), "timing")
