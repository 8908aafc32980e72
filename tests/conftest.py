"""Eight virtual CPU devices, every signature's shapes checked, one compilation cache, and what tests cost."""

import os
import shutil
from pathlib import Path

# One compilation cache for a run of the tests, its workers and the processes that tests start, and for the
# next run: JAX finds a program by its text, its flags and the version of XLA.
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "programs"
LARGEST_CACHE = 2e9  # bytes, beyond which it is begun anew
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    # Compiling takes most of a test's time, and the models are tiny.
    + " --xla_backend_optimization_level=0"
    + " --xla_cpu_collective_call_terminate_timeout_seconds=600"
    + " --xla_cpu_collective_call_warn_stuck_timeout_seconds=300"
)

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
assert jax.device_count() == 8

import sys  # noqa: E402
from types import ModuleType  # noqa: E402

from beartype import BeartypeConf, beartype  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

from tests.programs import drop_programs  # noqa: E402
from tests.timing import Timing  # noqa: E402

# An int is a float here, as it is for type checkers.
checker = ModuleType("vision_jax_checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # pyright: ignore
sys.modules[checker.__name__] = checker

# Functions and methods, not the structs of vision_jax.types: vmap and eval_shape build those of other things.
ROOMS = (
    *("kernels", "ops", "layers", "backbones", "models", "data", "training", "evaluation", "visualization"),
    *("tasks", "benchmarks", "pretrained"),
)
install_import_hook([f"vision_jax.{room}" for room in ROOMS], "vision_jax_checker.check")

# Rooms whose files take minutes: begun first, so that no process is left with one when the others are done.
LONG = ("contract", "docs", "models", "sweeps", "training", "benchmarks")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def pytest_runtest_teardown(item, nextitem):
    if nextitem is None or nextitem.path != item.path:
        drop_programs()


def pytest_configure(config):
    config.pluginmanager.register(Timing(), "timing")
    is_worker = hasattr(config, "workerinput")
    if not is_worker and CACHE.exists() and sum(f.stat().st_size for f in CACHE.iterdir()) > LARGEST_CACHE:
        shutil.rmtree(CACHE)
