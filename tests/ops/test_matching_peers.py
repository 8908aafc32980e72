"""Matching and sampling follow torchvision's rules."""

import jax
import numpy as np
import pytest

from vision_jax.ops import match, sample_balanced

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytestmark = pytest.mark.peers

matched = jax.jit(match, static_argnums=(2, 3, 4))


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize("steps", [16, 10_000])  # coarse IoUs tie, fine ones do not
def test_matches_equal_torchvision(low_quality, steps):
    from torchvision.models.detection._utils import Matcher

    random = np.random.default_rng(steps)
    for _ in range(20):
        # Skewed, so that some truths are overlapped only a little; above 0, where the two differ by intent.
        iou = np.ceil(random.random((8, 100)) ** 4 * random.uniform(0.3, 1, (8, 1)) * steps) / steps
        iou = iou.astype(np.float32)
        theirs = Matcher(0.7, 0.3, allow_low_quality_matches=low_quality)(torch.from_numpy(iou))
        padded = np.concatenate([iou, np.ones((4, 100), np.float32)])
        ours = np.asarray(matched(padded, np.arange(12) < 8, 0.3, 0.7, low_quality))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("positives", "negatives"), [(200, 800), (10, 800), (200, 20), (0, 500), (50, 0), (0, 0)]
)
def test_sampled_counts_equal_torchvision(positives, negatives):
    from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

    labels = np.random.default_rng(0).permutation(
        np.repeat([1.0, 0.0, -1.0], [positives, negatives, 1000 - positives - negatives])
    )
    (theirs_positive,), (theirs_negative,) = BalancedPositiveNegativeSampler(256, 0.3)(
        [torch.from_numpy(labels)]
    )
    _, is_positive, valid = sample_balanced(jax.random.key(0), labels == 1, labels == 0, 256, 0.3)
    assert is_positive.sum() == theirs_positive.sum().item()
    assert (valid & ~is_positive).sum() == theirs_negative.sum().item()
