"""The film of a spatial transformer: how much a grid rotates back, and all of it on a few digits."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.paths import STUDIES
from vision_jax.ops import rotation_grid, sample_bilinear

pytestmark = pytest.mark.slow

FILE = STUDIES["film"]


@pytest.fixture(scope="module")
def film():
    spec = importlib.util.spec_from_file_location("film", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_digit_turned_and_turned_back_is_upright(film):
    rows, columns = np.indices((28, 28))
    bar = np.tile(np.where((abs(columns - 13.5) < 3) & (rows < 20), 255, 0).astype(np.uint8)[..., None], 3)
    angles = np.array([-60.0, -20.0, 0.0, 45.0])
    points = jax.vmap(lambda angle: rotation_grid(angle, (28, 28)))(jnp.radians(angles))
    np.testing.assert_allclose(film.turned_back(np.asarray(points)), angles, atol=1e-3)
    turned = jnp.stack([film.turn(bar, angle) for angle in angles]).astype(jnp.float32)
    upright = jax.vmap(sample_bilinear)(turned, points)
    inside = np.hypot(rows - 13.5, columns - 13.5) < 12
    assert abs(upright - bar)[:, inside].mean() < 12
    assert abs(turned - bar)[0, inside].mean() > 40


def test_it_draws_what_it_saw_and_says_how_upright_digits_are(film, tmp_path, capsys):
    film.film(tmp_path, steps=2, every=1, digits=2)
    # Of 30 angles some neighbors give the same picture, which a GIF holds once.
    for name, least, most in (("training.gif", 3, 3), ("rotation.gif", 20, 30)):
        with Image.open(tmp_path / name) as picture:
            assert least <= picture.n_frames <= most, name
    assert (tmp_path / "training.png").stat().st_size > 1000
    (turned, left) = re.findall(r"turn(?:ed)?\s+by (\d+)", capsys.readouterr().out)
    assert (turned, left) == ("53", "53")  # after two steps nothing is turned back
