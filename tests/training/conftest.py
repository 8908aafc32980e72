"""A compilation cache shared by this folder's tests and the processes they start."""

import multiprocessing
import sys
from pathlib import Path

import jax
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xla")
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield folder
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="session")
def processes(cache):
    """Starts real training processes: (options of `tiny_training.train`) -> a started process.

    They are forked from a server that has imported everything and has not touched a device.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny_training", "vision_jax.training", "orbax.checkpoint"])
    import tiny_training

    def start(run_folder, **options):
        process = context.Process(
            target=tiny_training.train, args=(run_folder,), kwargs={"cache": cache, **options}
        )
        process.start()
        return process

    return start
