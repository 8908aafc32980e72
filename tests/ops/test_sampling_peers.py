"""The sampler and the affine grid equal torch's, in value and in both gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.ops.sampling import affine_grid, sample_bilinear

torch = pytest.importorskip("torch")
functional = pytest.importorskip("torch.nn.functional")
pytestmark = pytest.mark.peers


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("shape", [(13, 9, 3), (1, 1, 2), (1, 6, 1), (4, 1, 2), (28, 28, 1), (7, 7, 16)])
def test_sampled_values_equal_torch(shape, padding, align_corners):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, *shape)).astype(np.float32)
    points = (1.3 * rng.normal(size=(2, 11, 6, 2))).astype(np.float32)
    points[0, :3, 0] = [[-1, -1], [1, 1], [0, 1]]  # on borders and centers
    gradient = rng.normal(size=(2, 11, 6, shape[2])).astype(np.float32)

    @jax.jit
    def ours(image, points, gradient):
        read = jax.vmap(lambda i, p: sample_bilinear(i, p, padding, align_corners))
        values, pull = jax.vjp(read, image, points)
        return values, *pull(gradient)

    values, of_image, of_points = ours(image, points, gradient)
    their_image = torch.tensor(image.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    their_points = torch.tensor(points, requires_grad=True)
    theirs = functional.grid_sample(
        their_image, their_points, padding_mode=padding, align_corners=align_corners
    )
    theirs.backward(torch.tensor(gradient.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(values, theirs.detach().numpy().transpose(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(of_image, their_image.grad.numpy().transpose(0, 2, 3, 1), atol=1e-4)
    expected = their_points.grad.numpy()
    np.testing.assert_allclose(of_points, expected, atol=1e-4 * max(1, abs(expected).max()))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(5, 8), (1, 1), (1, 3)])
@pytest.mark.filterwarnings("ignore:Since version 1.3.0")
def test_an_affine_grid_equals_torch(size, align_corners):
    theta = np.random.default_rng(1).normal(size=(2, 2, 3)).astype(np.float32)
    ours = jax.vmap(lambda t: affine_grid(t, size, align_corners))(jnp.asarray(theta))
    theirs = functional.affine_grid(torch.tensor(theta), (2, 1, *size), align_corners=align_corners)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
