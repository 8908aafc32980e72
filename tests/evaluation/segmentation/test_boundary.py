"""Measures near boundaries: by hand, against all pairs of pixels, and under what must not change them."""

import io
import math
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.batches import segmentation_of
from vision_jax.evaluation import (
    BoundaryEvaluator,
    PerImage,
    SegmentationEvaluator,
    band_counts,
    boundary_f1,
    interval,
    read_per_image,
)
from vision_jax.evaluation.per_image.kinds import Boundaries, Pixels
from vision_jax.types import Segmentation, UserError

NAN = math.nan
CLASSES = ("a", "b", "c")
WIDTHS = (1, 2, 3, 5, 9)
# Other seeds each time: a failure prints its seed.
seeds = st.integers(0, 2**16)


def evaluated(pairs, classes=CLASSES, widths=WIDTHS, batch_size=1):
    """An evaluator that has seen the (truth, answer) pairs, which it is given so many at a time."""
    evaluator = BoundaryEvaluator(classes, widths=widths)
    for start in range(0, len(pairs), batch_size):
        evaluator.add(*batch_of(pairs[start : start + batch_size], start))
    return evaluator


def batch_of(pairs, first_id=0):
    sizes = np.array([truth.shape for truth, _ in pairs], np.int32)
    canvas = len(pairs), *sizes.max(axis=0) + 1
    maps = np.full((2, *canvas), 0, np.int32)
    for i, (height, width) in enumerate(sizes):
        # What stands in the padding is nobody's business.
        maps[:, i, :height, :width] = pairs[i]
    ids = np.arange(first_id, first_id + len(pairs), dtype=np.int32)
    batch = segmentation_of(np.zeros((*canvas, 3), np.uint8), maps[0], sizes, id=ids)
    return batch, Segmentation(maps[1], np.zeros((*canvas, 3), np.float32))


def random_pair(rng, shape, coarse=4, void=0.2):
    """A truth of patches with noise and void, and an answer near it; some class may occur nowhere."""
    small = rng.integers(-1 if rng.random() < 0.5 else 0, 3, (shape[0] // coarse + 1, shape[1] // coarse + 1))
    truth = np.repeat(np.repeat(small, coarse, axis=0), coarse, axis=1)[: shape[0], : shape[1]]
    answer = np.roll(np.maximum(truth, 0), rng.integers(-2, 3, 2), (0, 1))
    for map, low in (truth, -1), (answer, 0):
        noise = rng.random(shape) < rng.choice([0, 0.05, 0.5])
        map[noise] = rng.integers(low, 3, noise.sum())
    truth[rng.random(shape) < rng.choice([0, void])] = -1
    return truth.astype(np.int32), answer.astype(np.int32)


def squared_distances(a, b):
    """Between all pixels of a and of b, given as [n, 2]."""
    return ((a[:, None] - b[None]) ** 2).sum(-1)


def distance_to_others(labels):
    """Of each pixel to the nearest of another class, from all pairs; infinite in void and without one."""
    positions, flat = np.argwhere(np.ones(labels.shape)), labels.ravel()
    squared = squared_distances(positions, positions).astype(float)
    squared[(flat[:, None] == flat[None]) | (np.minimum(flat[:, None], flat[None]) < 0)] = np.inf
    return np.sqrt(squared.min(axis=1)).reshape(labels.shape)


def slow_bands(truth, answer, widths):
    """Five sets of pixels by class and width, as masks and counted."""
    answer = np.where(truth < 0, -1, answer)
    of_true, of_own = distance_to_others(truth), distance_to_others(answer)
    expected = np.zeros((5, len(widths), 3), int)
    for i, width in enumerate(widths):
        for k in range(3):
            band, mine = of_true <= width, of_own <= width
            true, found = truth == k, answer == k
            both = (true & band) & (found & mine)
            sets = (true & found & band, true & band, found & band, both, found & mine)
            expected[:, i, k] = [some.sum() for some in sets]
    return expected


def slow_f1(truth, answer):
    """By its definition, pixel by pixel."""
    height, width = truth.shape
    answer = np.where(truth < 0, -1, answer)
    limit = Fraction(75, 10_000) ** 2 * (height**2 + width**2)

    def boundary(labels, k):
        found = []
        for y, x in np.argwhere(labels == k):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width and labels[v, u] not in (-1, k):
                    found.append((y, x))
                    break
        return np.array(found).reshape(-1, 2)

    f1 = []
    for k in range(3):
        true, found = boundary(truth, k), boundary(answer, k)
        if not len(true):
            f1.append(NAN)
        elif not len(found):
            f1.append(0)
        else:
            close = squared_distances(true, found) <= math.floor(limit)
            recall, precision = close.any(axis=1).mean(), close.any(axis=0).mean()
            f1.append(2 * precision * recall / (precision + recall) if close.any() else 0)
    return f1


TRUTH = np.array([[0, 0, 1, 1]] * 3, np.int32)
ANSWER = np.array([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]], np.int32)
# The two middle columns are boundary. Within 2 lie all pixels of the truth; of the answer all but the last of
# the first row, which is 3 from the first 0 in its row and sqrt(5) from that in the next.
BY_HAND = {
    "boundary_F1": 2 / 3,  # Of each class, two of three predicted boundary pixels are right.
    "trimap/1": (2 / 3 + 3 / 4) / 2,
    "trimap/2": (5 / 6 + 6 / 7) / 2,
    "trimap_accuracy/1": 5 / 6,
    "trimap_accuracy/2": 11 / 12,
    "boundary_IoU/1": (2 / 4 + 2 / 4) / 2,
    "boundary_IoU/2": (5 / 6 + 5 / 7) / 2,
}


def test_a_small_map_worked_by_hand(tmp_path):
    report = evaluated([(TRUTH, ANSWER)], widths=(2, 1)).report()
    assert report.metrics == pytest.approx(BY_HAND)
    first, _, second = report.tables["boundaries.md"].partition("Boundary IoU")
    rows = [[[c.strip() for c in line.split("|")[1:-1]] for line in t.splitlines()] for t in (first, second)]
    assert ["a", "0.667", "0.667", "0.833"] in rows[0]
    assert ["c", "-", "-", "-"] in rows[0]
    assert ["**mean**", "0.667", "0.708", "0.845"] in rows[0]
    assert ["**pixel accuracy**", "", "0.833", "0.917"] in rows[0]
    assert ["b", "0.500", "0.714"] in rows[1]
    assert ["**mean**", "0.500", "0.774"] in rows[1]
    report.write(tmp_path)
    assert cv2.imread(str(tmp_path / "boundaries.png")).shape[0] > 300


def test_sums_run_over_the_set_and_f1_over_images():
    # A second image: its only boundary pixels in truth are one 0 and one 2, and the answer has no 2.
    second = np.array([[0, 2]], np.int32), np.array([[0, 0]], np.int32)
    metrics = evaluated([(TRUTH, ANSWER), second], widths=(1,)).report().metrics
    # Class 0: 2 + 1 right of 3 + 1, and one 2 taken for it; class 2: none of one.
    assert metrics["trimap/1"] == pytest.approx((3 / 5 + 3 / 4 + 0) / 3)
    assert metrics["trimap_accuracy/1"] == pytest.approx(6 / 8)
    # The answer has no boundary in the second image.
    assert metrics["boundary_IoU/1"] == pytest.approx((2 / 5 + 2 / 4 + 0) / 3)
    assert metrics["boundary_F1"] == pytest.approx((2 / 3 + 0) / 2)


def test_classes_without_a_true_boundary_do_not_count():
    full = np.zeros((4, 5), np.int32)
    np.testing.assert_array_equal(boundary_f1(full, full, 3), [NAN] * 3)
    np.testing.assert_array_equal(boundary_f1(full, np.eye(4, 5, dtype=np.int32), 3), [NAN] * 3)
    assert all(math.isnan(value) for value in evaluated([(full, full)]).report().metrics.values())
    assert all(math.isnan(value) for value in BoundaryEvaluator(CLASSES).report().metrics.values())
    # An image without boundaries does not change the mean over those that have some.
    metrics = evaluated([(full, full), (TRUTH, ANSWER), (full - 1, full)], widths=(1, 2)).report().metrics
    assert metrics == pytest.approx(BY_HAND)


def test_a_class_that_was_not_predicted_has_f1_zero():
    np.testing.assert_array_equal(boundary_f1(TRUTH, np.zeros_like(TRUTH), 3), [0, 0, NAN])
    np.testing.assert_array_equal(boundary_f1(TRUTH, 2 * TRUTH, 3), [1, 0, NAN])


def test_void_is_no_boundary_but_other_classes_are_seen_across_it():
    truth = np.array([[0, 0, -1, 1, 1]], np.int32)
    answer = np.array([[0, 0, 2, 1, 1]], np.int32)
    np.testing.assert_array_equal(boundary_f1(truth, answer, 3), [NAN] * 3)
    right, true, predicted, shared, outlined = band_counts(truth, answer, 3, (1, 2, 3))
    # The pixels beside the void are 2 apart; the outer ones are 3 from the other class.
    for counts in (right, true, predicted, shared, outlined):
        np.testing.assert_array_equal(counts, [[0, 0, 0], [1, 1, 0], [2, 2, 0]])


@pytest.mark.parametrize("turned", [np.asarray, np.fliplr, np.transpose, lambda x: np.flipud(x.T)])
def test_the_widest_band_reaches_just_as_far_as_it_is_wide(turned):
    for void, seen in ((3, 1), (4, 0)):
        truth = turned(np.array([[0, *[-1] * void, 1]], np.int32))
        np.testing.assert_array_equal(band_counts(truth, truth, 2, (1, 4))[1], [[0, 0], [seen, seen]])


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_predictions_in_void_do_not_count(seed):
    rng = np.random.default_rng(seed)
    truth, answer = random_pair(rng, (12, 9))
    other = np.where(truth < 0, rng.integers(0, 3, truth.shape), answer)
    np.testing.assert_array_equal(boundary_f1(truth, answer, 3), boundary_f1(truth, other, 3))
    np.testing.assert_array_equal(band_counts(truth, answer, 3, WIDTHS), band_counts(truth, other, 3, WIDTHS))


@settings(max_examples=60, deadline=None)
@given(seed=seeds, height=st.integers(1, 24), width=st.integers(1, 24), coarse=st.integers(1, 9))
def test_bands_are_those_of_all_pairs_of_pixels(seed, height, width, coarse):
    truth, answer = random_pair(np.random.default_rng(seed), (height, width), coarse)
    for widths in (WIDTHS, (4,)):
        expected = slow_bands(truth, answer, widths)
        np.testing.assert_array_equal(band_counts(truth, answer, 3, widths), expected)


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    # Tolerances of 0.07, 1.5 and 1.5, 2.25 (nearly), and 3.75 pixels.
    shape=st.sampled_from([(7, 6), (3, 200), (200, 2), (1, 300), (2, 500)]),
    coarse=st.integers(1, 30),
)
def test_f1_is_that_of_all_pairs_of_boundary_pixels(seed, shape, coarse):
    truth, answer = random_pair(np.random.default_rng(seed), shape, coarse, 0.03)
    expected = slow_f1(truth, answer)
    np.testing.assert_allclose(boundary_f1(truth, answer, 3), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("apart", "f1"), [(0, 1), (6, 1), (7, 0)])
def test_the_tolerance_of_640_by_480_is_six_pixels(apart, f1):
    columns = np.arange(640)[None].repeat(480, axis=0)
    truth, answer = ((columns >= x).astype(np.int32) for x in (100, 100 + apart))
    for turned in (lambda x: x, np.transpose):
        np.testing.assert_array_equal(boundary_f1(turned(truth), turned(answer), 2), [f1, f1])


def test_distances_are_round_and_not_square():
    # One pixel in the middle of 640 x 480: predicted 4 and 4 away it is found (5.7), 5 and 4 away not (6.4).
    truth = np.zeros((480, 640), np.int32)
    truth[240, 320] = 1
    for y, x, found in ((244, 324, 1), (245, 324, 0), (246, 320, 1)):
        answer = np.zeros_like(truth)
        answer[y, x] = 1
        assert boundary_f1(truth, answer, 2)[1] == found
    # Around it lie 4 pixels within 1, and 12 within 2; squares would hold 8 and 24.
    assert band_counts(truth, truth, 2, (1, 2))[1].tolist() == [[4, 1], [12, 1]]


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_turning_mirroring_renaming_and_a_margin_of_void_change_nothing(seed):
    rng = np.random.default_rng(seed)
    truth, answer = random_pair(rng, (int(rng.integers(2, 200)), int(rng.integers(2, 9))), 3)
    counts, f1 = band_counts(truth, answer, 3, WIDTHS), boundary_f1(truth, answer, 3)
    for turned in (np.transpose, np.flipud, np.fliplr):
        np.testing.assert_array_equal(band_counts(turned(truth), turned(answer), 3, WIDTHS), counts)
        np.testing.assert_array_equal(boundary_f1(turned(truth), turned(answer), 3), f1)
    name = np.array([2, 0, 1, -1])  # The last is that of void.
    np.testing.assert_array_equal(band_counts(name[truth], name[answer], 3, WIDTHS)[:, :, name[:3]], counts)
    np.testing.assert_array_equal(boundary_f1(name[truth], name[answer], 3)[name[:3]], f1)
    # It shifts the map in its image, too. (F1's tolerance grows with the image.)
    margin = [tuple(rng.integers(0, 20, 2)) for _ in "yx"]
    shifted = np.pad(truth, margin, constant_values=-1), np.pad(answer, margin, constant_values=1)
    np.testing.assert_array_equal(band_counts(*shifted, 3, WIDTHS), counts)


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_the_truth_scores_1_and_nothing_scores_beyond_it(seed):
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng, (9, 12)) for _ in range(3)]
    best = evaluated([(truth, np.maximum(truth, 0)) for truth, _ in pairs]).report().metrics
    metrics = evaluated(pairs).report().metrics
    for name, value in metrics.items():
        assert math.isnan(best[name]) or best[name] == 1
        assert math.isnan(value) or 0 <= value <= 1
        assert math.isnan(value) <= math.isnan(best[name])


@settings(max_examples=20, deadline=None)
@given(seed=seeds, batch_size=st.integers(1, 6))
def test_neither_order_nor_batches_matter(seed, batch_size):
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng, tuple(rng.integers(3, 15, 2))) for _ in range(6)]
    metrics = evaluated(pairs).report().metrics
    other = evaluated([pairs[i] for i in rng.permutation(6)], batch_size=batch_size).report().metrics
    np.testing.assert_allclose(list(other.values()), list(metrics.values()), rtol=0, atol=1e-12)
    assert list(other) == list(metrics)


def test_invalid_examples_are_left_out():
    batch, answer = batch_of([(TRUTH, ANSWER), (TRUTH, 1 - ANSWER)])
    evaluator = BoundaryEvaluator(CLASSES, widths=(1, 2))
    evaluator.add(batch.replace(example_valid=np.array([True, False])), answer)
    assert evaluator.report().metrics == pytest.approx(BY_HAND)


def test_evaluates_at_the_sources_own_size():
    class Source:
        classes = CLASSES

        def __len__(self):
            return 8

        def name(self, index):
            return f"{index}.png"

        def image(self, index):
            raise AssertionError("evaluation needs no pixels")

        def labels(self, index):
            assert index == 7
            return TRUTH.repeat(2, axis=0).repeat(2, axis=1)

    batch, answer = batch_of([(1 - TRUTH, ANSWER)], first_id=7)
    evaluator = BoundaryEvaluator(CLASSES, Source(), (1, 3))
    evaluator.add(batch, answer)
    twice = evaluated(
        [(Source().labels(7), ANSWER.repeat(2, axis=0).repeat(2, axis=1))], widths=(1, 3)
    ).report()
    assert evaluator.report().metrics == twice.metrics
    assert evaluator.report().tables == twice.tables


@pytest.mark.parametrize("widths", [(), (0, 1), (-2,)])
def test_bands_have_a_width(widths):
    with pytest.raises(ValueError, match="at least 1"):
        BoundaryEvaluator(CLASSES, widths=widths)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, weights=st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_images_weighted_are_images_repeated(tmp_path_factory, seed, weights):
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("run")
    pairs = [random_pair(rng, (8, 10)) for _ in range(5)]
    own, whole = evaluated(pairs), SegmentationEvaluator(CLASSES)
    whole.add(*batch_of(pairs))
    for report, name in ((own.report(), "per_image_boundary.npz"), (whole.report(), "per_image.npz")):
        report.files[name](folder / name)
    per_image = read_per_image(folder)
    assert [type(part) for part in per_image.parts] == [Pixels, Boundaries]
    assert per_image.ids.tolist() == list(range(5))
    metrics = per_image.metrics(np.array([[1] * 5, weights]))
    repeated = [pair for pair, times in zip(pairs, weights, strict=True) for _ in range(times)]
    for i, expected in enumerate((own.report().metrics, evaluated(repeated).report().metrics)):
        assert set(expected) == set(metrics) - {"pixel_accuracy", "mean_accuracy", "mIoU", "fwIoU"}
        for name, value in expected.items():
            np.testing.assert_allclose(metrics[name][i], value, rtol=0, atol=1e-12, err_msg=name)
    alone = per_image.metrics(np.array([[1] * 5]), ["boundary_IoU/3"])
    assert list(alone) == ["boundary_IoU/3"]
    np.testing.assert_equal(alone["boundary_IoU/3"][0], own.report().metrics["boundary_IoU/3"])


def test_bootstraps_take_them_as_other_metrics(tmp_path):
    rng = np.random.default_rng(0)
    evaluated([random_pair(rng, (20, 20)) for _ in range(12)]).report().write(tmp_path)
    for metric in ("boundary_F1", "trimap/2", "trimap_accuracy/5", "boundary_IoU/1"):
        found = interval({0: read_per_image(tmp_path)}, metric, resamples=60)
        assert found.low < found.value < found.high
        assert found.images == 12


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "per_image_boundary.npz"
    counts = [np.ones((2, 3, 4), np.int32)] * 5
    PerImage(np.arange(2), (Boundaries(np.array([1, 2, 4]), np.ones((2, 4)), *counts),)).write(path)
    with np.load(io.BytesIO(path.read_bytes())) as file:
        arrays = {name: file[name] for name in file.files}
    assert read_per_image(tmp_path).names[:3] == ("boundary_F1", "trimap/1", "trimap/2")
    for name, broken, problem in (
        ("widths", np.array([1, 2, 2]), "ascend"),
        ("widths", np.array([0, 2, 3]), "ascend"),
        ("widths", np.array([1.0, 2, 3]), "ascend"),
        ("widths", np.array([1, 2]), "number of pixels"),
        ("f1", np.ones((2, 4), np.float32), "boundary F1"),
        ("f1", np.ones((2, 3)), "number of pixels"),
        ("right", np.ones((2, 3, 4)), "number of pixels"),
        ("shared", np.ones((2, 3), np.int32), "number of pixels"),
        ("outlined", None, "outlined"),
    ):
        some = {**arrays, f"boundaries/{name}": broken}
        np.savez(path, **{name: array for name, array in some.items() if array is not None})
        with pytest.raises(UserError, match=problem):
            read_per_image(tmp_path)
