"""Ours and torchvision's sides of each case do the same work, and find the same."""

import dataclasses

import numpy as np
import pytest

from vision_jax.benchmarks.cases import CASES
from vision_jax.benchmarks.measure import measure_time

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

pytestmark = pytest.mark.peers


def sides(name, tiny):
    case = CASES[name](tiny)
    theirs = case.theirs()
    return case.ours(theirs.model), theirs


def channels_last(tensor):
    return tensor.detach().movedim(1, -1).numpy()


def test_pooled_regions_and_their_gradient(tiny):
    ours, theirs = sides("roi_align_gradient", tiny)
    (pooled, gradient), (their_pooled, their_gradient) = ours.run(), theirs.run()
    np.testing.assert_allclose(pooled, channels_last(their_pooled), atol=1e-5)
    np.testing.assert_allclose(gradient, channels_last(their_gradient)[0], atol=1e-4)
    theirs.run()
    np.testing.assert_allclose(gradient, channels_last(theirs.run()[1])[0], atol=1e-4)
    ours, theirs = sides("roi_align_forward", tiny)
    np.testing.assert_allclose(ours.run(), channels_last(theirs.run()), atol=1e-5)


@pytest.mark.parametrize("name", ["nms_spread", "nms_dense", "nms_chain"])
def test_kept_boxes_equal_the_peers(name, tiny):
    ours, theirs = sides(name, tiny)
    kept, there = map(np.asarray, ours.run())
    np.testing.assert_array_equal(kept[there], theirs.run())
    assert ours.count(ours.run()) == theirs.count(theirs.run())


def test_ious_equal_the_peers(tiny):
    ours, theirs = sides("box_iou", tiny)
    np.testing.assert_allclose(ours.run(), theirs.run(), atol=1e-6)


def test_warped_images_and_their_gradients(tiny):
    ours, theirs = sides("sampling_gradient", tiny)
    (warped, *mine), (their_warped, of_image, of_points) = ours.run(), theirs.run()
    np.testing.assert_allclose(warped, channels_last(their_warped), atol=1e-5)
    np.testing.assert_allclose(mine[0], channels_last(of_image), atol=1e-4)
    np.testing.assert_allclose(mine[1], of_points, atol=1e-4 * float(of_points.abs().max()))
    ours, theirs = sides("sampling_forward", tiny)
    np.testing.assert_allclose(ours.run(), channels_last(theirs.run()), atol=1e-5)


def test_logits_equal_the_peers(tiny):
    ours, theirs = sides("mobilenet_v2_forward", tiny)
    expected = theirs.run().numpy()
    assert np.abs(ours.run() - expected).max() / np.abs(expected).max() < 1e-4


def test_steps_of_a_classifier(tiny):
    ours, theirs = sides("mobilenet_v2_step", dataclasses.replace(tiny, batch=4, image=64))
    for _ in range(3):
        np.testing.assert_allclose(ours.run().loss, theirs.run(), rtol=1e-3)


@pytest.mark.parametrize("name", ["unpooling_gradient", "transposed_gradient"])
def test_maps_made_larger_and_their_gradients(name, tiny):
    ours, theirs = sides(name, tiny)
    mine, their = ours.run(), theirs.run()
    for a, b in zip(mine, their, strict=True):
        expected = b.permute(0, 2, 3, 1).detach().numpy()
        np.testing.assert_allclose(a, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["segnet_basic", "fcn_resnet50"])
def test_scores_of_pixels_equal_the_peers(name, tiny):
    ours, theirs = sides(f"{name}_forward", tiny)
    expected = theirs.run().permute(0, 2, 3, 1).numpy()
    assert np.abs(ours.run() - expected).max() / np.abs(expected).max() < 1e-4


def test_steps_of_a_segmenter(tiny):
    ours, theirs = sides("segnet_basic_step", tiny)
    for _ in range(3):
        np.testing.assert_allclose(ours.run().loss, theirs.run(), rtol=1e-3)


@pytest.mark.parametrize("name", ["faster_rcnn_predict", "mask_rcnn_predict"])
def test_detections_equal_the_peers(name, tiny):
    ours, theirs = sides(name, tiny)
    mine, (their,) = ours.run(), theirs.run()
    assert ours.count(mine) == theirs.count([their])
    kept = np.asarray(mine.valid[0])
    assert kept.sum() > 3
    np.testing.assert_allclose(mine.scores[0][kept], their["scores"], atol=1e-4)
    np.testing.assert_allclose(mine.boxes[0][kept], their["boxes"], atol=2e-2)
    if name.startswith("mask"):
        np.testing.assert_allclose(mine.masks[0][kept], their["masks"][:, 0], atol=1e-3)


def test_steps_of_a_detector_sample_full_quotas(tiny):
    ours, theirs = sides("mask_rcnn_step", tiny)
    mine, their = ours.run(), theirs.run()
    full = {"regions": tiny.rois_per_image, "masks": tiny.rois_per_image // 4}
    assert ours.count(mine) == theirs.count(their) == full
    # Regions are sampled, so the losses are near, not equal.
    np.testing.assert_allclose(mine.loss, their, rtol=0.2)


def test_both_sides_are_timed_in_as_many_rounds(tiny):
    found = measure_time(CASES["box_iou"](tiny), rounds=3, peers=True)
    assert {name: len(values) for name, values in found["seconds"].items()} == {"ours": 3, "theirs": 3}
