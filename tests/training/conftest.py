"""Training in processes of their own."""

import multiprocessing

import pytest

from tests.training import tiny_training


@pytest.fixture(scope="session")
def processes():
    """Starts real training processes: (options of `tiny_training.train` or of `target`) -> a started process.

    They are forked from a server that has imported everything and has not touched a device.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.training.tiny_training", "vision_jax.training", "orbax.checkpoint"]
    )

    def start(run_folder, target=tiny_training.train, **options):
        process = context.Process(target=target, args=(run_folder,), kwargs=options)
        process.start()
        return process

    return start
