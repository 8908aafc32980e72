"""The study of checkerboards: how it finds them, and all of it on a few images."""

import importlib.util
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from tests.paths import STUDIES

FILE = STUDIES["checkerboards"]


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("checkerboards", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_a_lattice_is_a_checkerboard_and_a_step_is_none(study):
    rows, columns = np.indices((64, 64))
    lattice = ((rows % 2) * (columns % 2)).astype(float)[..., None]
    assert study.checkerboard(lattice) > 0.99
    assert study.checkerboard(np.tile((columns < 30).astype(float)[..., None], 3)) < 0.01
    of_four = (rows % 4 == 0).astype(float)[..., None]
    assert study.checkerboard(of_four, 4) > 0.99 > study.checkerboard(of_four, 2)


def test_every_way_doubles_a_map_with_the_weight_that_it_says(study):
    small = jnp.ones((9, 9, 1))
    for upsampler in study.UPSAMPLERS:
        rng = np.random.default_rng(0)
        kernel = jnp.asarray(rng.normal(size=(upsampler.size, upsampler.size, 4000, 1)), jnp.float32)
        large = np.asarray(upsampler.apply(small, kernel))
        assert large.shape == (18, 18, 4000)
        if upsampler.name.startswith("transposed"):
            # Over a plain map, what is sampled for a location is a sum over the taps that reach it.
            np.testing.assert_allclose(large[8:10, 8:10].var(-1).mean(), upsampler.summed, rtol=0.1)


@pytest.mark.slow
def test_the_study_of_a_few_drawn_scenes(study, tmp_path, capsys):
    study.main("synthetic?length=12&val_length=1&canvas=64", tmp_path, images=12, kernels=2, steps=3, seeds=1)
    text = (tmp_path / "result.md").read_text()
    for upsampler in study.UPSAMPLERS:
        assert f"| {upsampler.name} " in text
    assert (tmp_path / "result.png").stat().st_size > 1000
    # Only where the stride does not divide the kernel does one of ones leave a checkerboard.
    ones = {
        row.split(" | ")[0]: float(row.split(" | ")[1]) for row in capsys.readouterr().out.splitlines()[:-1]
    }
    assert min(ones["transposed 3x3"], ones["transposed 5x5"]) > 3
    assert max(fraction for name, fraction in ones.items() if not name.endswith(("d 3x3", "d 5x5"))) < 1
