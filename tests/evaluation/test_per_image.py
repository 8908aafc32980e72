"""What images contribute: by hand, against repeated images, and against each evaluator's own metrics."""

import dataclasses
import io
import math
import warnings
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval

from tests.batches import classification_of, segmentation_of
from vision_jax.evaluation import (
    ClassificationEvaluator,
    CocoEvaluator,
    CocoInstanceEvaluator,
    PerImage,
    SegmentationEvaluator,
    VocEvaluator,
    read_per_image,
    segmentation_scores,
)
from vision_jax.evaluation.detection.coco_matches import match_in_image
from vision_jax.evaluation.per_image import average_precision
from vision_jax.evaluation.per_image.kinds import (
    CocoMatches,
    Contributions,
    Means,
    Pixels,
    Ratios,
    VocMatches,
)
from vision_jax.types import (
    Classification,
    Segmentation,
    UserError,
)

CLASSES = ("a", "b", "c")
# Other seeds each time: a failure prints its seed.
seeds = st.integers(0, 2**16)


def kept(tmp_path, *reports):
    """What the reports' evaluators keep, through files."""
    for report in reports:
        for name in set(report.files) & {"per_image.npz", "per_image_voc.npz"}:
            report.files[name](tmp_path / name)
    return read_per_image(tmp_path)


def repeated(items, weights):
    return [item for item, times in zip(items, weights, strict=True) for _ in range(times)]


def repeated_records(records, weights):
    """As often as weights say, a record's repetitions with ids next to one another."""
    ids = [1000 * r.id + copy for r, times in zip(records, weights, strict=True) for copy in range(times)]
    return [dataclasses.replace(r, id=id) for r, id in zip(repeated(records, weights), ids, strict=True)]


def assert_equal(metrics, expected, atol=1e-12):
    """Where one is undefined, so must the other be."""
    for name, value in metrics.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=atol, err_msg=name)


def test_weighted_means_of_images_by_hand():
    per_image = PerImage(np.array([7, 3, 5]), (Means({"accuracy": np.array([True, False, True])}),))
    assert per_image.names == ("accuracy",)
    weights = np.array([[1, 1, 1], [0, 3, 1], [2.0, 0, 0], [0, 0, 0]])
    accuracy = per_image.metrics(weights)["accuracy"]
    np.testing.assert_allclose(accuracy, [2 / 3, 1 / 4, 1, math.nan], rtol=0, atol=1e-15)


@dataclasses.dataclass(frozen=True, eq=False)
class WordErrors(Contributions):
    """A kind that the project does not know: errors a word, of sentences."""

    kind = "word_errors"
    errors: np.ndarray
    words: np.ndarray
    names = ("WER",)

    @property
    def images(self):
        return len(self.words)

    def metrics(self, weights, names):
        return {"WER": (weights @ self.errors) / (weights @ self.words)}

    def arrays(self):
        return {"errors": self.errors, "words": self.words}

    @classmethod
    def of(cls, arrays):
        return cls(arrays["errors"], arrays["words"])


def test_weighted_ratios_of_sums_by_hand(tmp_path):
    part = Ratios({"nll": np.array([3.0, 1.0, 0.0])}, {"nll": np.array([2, 4, 0])})
    PerImage(np.array([7, 3, 5]), (part,)).write(tmp_path / "per_image.npz")
    metrics = read_per_image(tmp_path).metrics(np.array([[1, 1, 1], [2, 0, 5], [0, 0, 1]]))
    np.testing.assert_array_equal(metrics["nll"], [4 / 6, 6 / 4, np.nan])
    with pytest.raises(ValueError, match="other metrics"):
        Ratios({"a": np.ones(2)}, {"b": np.ones(2)})


def test_a_new_kind_is_one_class(tmp_path):
    part = WordErrors(np.array([1, 0, 4]), np.array([5, 3, 8]))
    PerImage(np.array([7, 3, 5]), (part, Means({"loss": np.arange(3.0)}))).write(tmp_path / "per_image.npz")
    found = read_per_image(tmp_path)
    assert found is not None
    assert found.names == ("WER", "loss")
    np.testing.assert_allclose(found.metrics(np.array([[1, 1, 1], [2, 0, 1]]))["WER"], [5 / 16, 6 / 18])
    part_of_another = {"ids": np.arange(2), "glyphs/errors": np.arange(2)}
    np.savez(tmp_path / "per_image.npz", allow_pickle=False, **part_of_another)
    with pytest.raises(UserError, match=r"per_image\.npz is not what an evaluation writes \('glyphs'"):
        read_per_image(tmp_path)


def test_weighted_pixel_metrics_by_hand():
    # The first image: 4 pixels of class 0, 3 right, the other taken for class 1. The second: 2 of class 1.
    pixels = Pixels(
        np.array([[3, 0, 0], [0, 2, 0]]), np.array([[4, 0, 0], [0, 2, 0]]), np.array([[3, 1, 0], [0, 2, 0]])
    )
    metrics = PerImage(np.arange(2), (pixels,)).metrics(np.array([[1, 1], [1, 2], [1, 0], [0, 0]]))
    nan = math.nan
    np.testing.assert_allclose(metrics["pixel_accuracy"], [5 / 6, 7 / 8, 3 / 4, nan])
    np.testing.assert_allclose(metrics["mean_accuracy"], [7 / 8, 7 / 8, 3 / 4, nan])
    np.testing.assert_allclose(metrics["mIoU"], [(3 / 4 + 2 / 3) / 2, (3 / 4 + 4 / 5) / 2, 3 / 8, nan])
    fw = [4 / 6 * 3 / 4 + 2 / 6 * 2 / 3, 4 / 8 * 3 / 4 + 4 / 8 * 4 / 5, 3 / 4, nan]
    np.testing.assert_allclose(metrics["fwIoU"], fw)


def test_the_classification_evaluator_keeps_the_images_that_are_not_padding(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"class {k}" for k in range(8)]
    evaluator, whole = (ClassificationEvaluator(names) for _ in range(2))
    weights = np.array([2, 0, 1, 3, 1, 0, 4, 1])
    ids, labels = 10 - np.arange(10, dtype=np.int32), rng.integers(0, 8, 10).astype(np.int32)
    probabilities = rng.random((10, 8)).astype(np.float32)
    probabilities[np.arange(10), labels] += 0.4
    valid = np.ones(10, bool)
    valid[[2, 9]] = False
    answer = Classification(probabilities.argmax(-1).astype(np.int32), probabilities)
    image = np.zeros((10, 1, 1, 3), np.uint8)
    for part in (slice(0, 6), slice(6, 10)):
        some = Classification(answer.labels[part], answer.probabilities[part])
        evaluator.add(
            classification_of(image[part], labels[part], id=ids[part], example_valid=valid[part]), some
        )
    often = np.repeat(np.flatnonzero(valid), weights)
    batch = classification_of(image[:1].repeat(len(often), 0), labels[often], id=ids[often])
    whole.add(batch, Classification(answer.labels[often], answer.probabilities[often]))

    per_image = kept(tmp_path, evaluator.report())
    assert per_image.ids.tolist() == ids[valid].tolist()
    assert per_image.names == ("accuracy", "accuracy/top5")
    metrics = per_image.metrics(np.stack([np.ones(8, int), weights]))
    own, repeated_metrics = evaluator.report().metrics, whole.report().metrics
    assert own["accuracy"] < own["accuracy/top5"] < 1
    for name in per_image.names:
        np.testing.assert_allclose(metrics[name], [own[name], repeated_metrics[name]], rtol=0, atol=1e-12)


def test_few_classes_have_no_top5_and_no_images_no_accuracy(tmp_path):
    per_image = kept(tmp_path, ClassificationEvaluator(["a", "b"]).report())
    assert per_image.names == ("accuracy",)
    assert math.isnan(per_image.metrics(np.ones((1, 0), int))["accuracy"][0])


@settings(max_examples=10, deadline=None)
@given(seed=seeds, weights=st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_label_maps_weighted_are_label_maps_repeated(tmp_path_factory, seed, weights):
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, 3, (4, 5, 6)).astype(np.int32)
    truth[truth == rng.integers(0, 3)] = -1  # One class is nowhere true, but may be predicted.
    answer = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 3, truth.shape)).astype(np.int32)
    answer[answer < 0] = 0
    confusions = []
    evaluator = SegmentationEvaluator(CLASSES)
    for i in range(4):
        batch = segmentation_of(np.zeros((1, 5, 6, 3), np.uint8), truth[i : i + 1], id=np.array([i + 5]))
        evaluator.add(batch, Segmentation(answer[i : i + 1], np.zeros((1, 5, 6, 3), np.float32)))
        labeled = truth[i] >= 0
        confusions.append(np.zeros((3, 3), int))
        np.add.at(confusions[-1], (truth[i][labeled], answer[i][labeled]), 1)
    per_image = kept(tmp_path_factory.mktemp("run"), evaluator.report())
    assert per_image.ids.tolist() == [5, 6, 7, 8]
    assert_equal(per_image.metrics(np.ones((1, 4), int)), evaluator.report().metrics)
    expected = segmentation_scores(np.tensordot(weights, confusions, axes=1))
    assert_equal(per_image.metrics(np.array([weights])), expected)


def coco_and_voc(records, found, predictions):
    """Reports of both evaluators; the images come in two batches, not in their order."""
    reports = []
    for evaluator in (CocoEvaluator(records, CLASSES), VocEvaluator(records, CLASSES)):
        for part in (range(1, len(records), 2), range(0, len(records), 2)):
            if part:
                evaluator.add(*predictions([records[i] for i in part], [found[i] for i in part], slots=200))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of images with more than 100 detections.
            reports.append(evaluator.report())
    return reports


# The fixtures are functions without state.
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds, weights=st.lists(st.integers(0, 3), min_size=7, max_size=7))
def test_detections_weighted_are_images_repeated(tmp_path_factory, split, predictions, seed, weights):
    # Crowds, all sizes, ties, empty images, images without truth, one with 130 detections of a class.
    records, found = split(seed, images=7)
    order = np.random.default_rng(seed).permutation(7)
    records, found = [records[i] for i in order], [found[i] for i in order]
    own = coco_and_voc(records, found, predictions)
    per_image = kept(tmp_path_factory.mktemp("run"), *own)
    assert per_image.ids.tolist() == [r.id for r in records]
    metrics = per_image.metrics(np.array([[1] * 7, weights]))
    assert set(metrics) == {*own[0].metrics, *own[1].metrics} - {"AP@all"}
    assert_equal({n: v[0] for n, v in metrics.items()}, {**own[0].metrics, **own[1].metrics})
    often = coco_and_voc(repeated_records(records, weights), repeated(found, weights), predictions)
    assert_equal({n: v[1] for n, v in metrics.items()}, {**often[0].metrics, **often[1].metrics})


def test_average_precision_by_hand(tmp_path, record, predictions):
    # Image 0: its object found, and an invention scored lower. Image 1: an invention first, then its object.
    here, there = [0, 0, 50, 50], [100, 100, 150, 150]
    records = [record(4, [here], [0]), record(2, [here], [0])]
    found = [([here, there], [0.9, 0.3], [0, 0]), ([there, here], [0.8, 0.7], [0, 0])]
    per_image = kept(tmp_path, *coco_and_voc(records, found, predictions))
    metrics = per_image.metrics(np.array([[1, 1], [1, 0], [0, 1], [2, 1], [1, 2], [0, 0]]))
    # Ranked: right, wrong, right, wrong. Recalls up to 1/2 at precision 1, the rest at 2/3.
    ap = [(51 + 50 * 2 / 3) / 101, 1, 1 / 2, (67 + 34 * 3 / 4) / 101, (34 + 67 * 3 / 5) / 101, math.nan]
    np.testing.assert_allclose(metrics["AP50"], ap, rtol=0, atol=1e-12)
    np.testing.assert_allclose(metrics["AP/medium"], ap, rtol=0, atol=1e-12)
    assert np.isnan(metrics["AP/small"]).all()
    np.testing.assert_allclose(metrics["AR/1"], [1 / 2, 1, 0, 2 / 3, 1 / 3, math.nan])
    np.testing.assert_allclose(metrics["AR/10"], [1, 1, 1, 1, 1, math.nan])
    area = [(1 + 2 / 3) / 2, 1, 1 / 2, (2 + 3 / 4) / 3, (1 + 2 * 3 / 5) / 3, math.nan]
    np.testing.assert_allclose(metrics["VOC/mAP"], area, rtol=0, atol=1e-12)
    eleven = [(6 + 5 * 2 / 3) / 11, 1, 1 / 2, (7 + 4 * 3 / 4) / 11, (4 + 7 * 3 / 5) / 11, math.nan]
    np.testing.assert_allclose(metrics["VOC/mAP11"], eleven, rtol=0, atol=1e-12)


def test_equal_scores_of_a_repeated_image_take_turns(tmp_path, record, predictions):
    # Twice: right, wrong, right, wrong; not right, right, wrong, wrong.
    here, there = [0, 0, 50, 50], [100, 100, 150, 150]
    records, found = [record(0, [here], [0])], [([here, there], [0.5, 0.5], [0, 0])]
    metrics = kept(tmp_path, *coco_and_voc(records, found, predictions)).metrics(np.array([[1], [2], [3]]))
    expected = [1, (51 + 50 * 2 / 3) / 101, (34 + 33 * 2 / 3 + 34 * 3 / 5) / 101]
    np.testing.assert_allclose(metrics["AP50"], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(metrics["VOC/mAP"], [1, 5 / 6, (1 + 2 / 3 + 3 / 5) / 3], rtol=0, atol=1e-12)


def test_resamples_in_parts_are_the_same_resamples(tmp_path, split, predictions):
    per_image = kept(tmp_path, *coco_and_voc(*split(5), predictions))
    weights = np.random.default_rng(0).multinomial(12, [1 / 12] * 12, size=9)
    with mock.patch.object(average_precision, "_COUNTS_HELD", 300):
        parts = per_image.metrics(weights)
    np.testing.assert_equal(parts, per_image.metrics(weights))


def test_only_what_is_asked_for_is_computed(tmp_path, split, predictions):
    per_image = kept(tmp_path, *coco_and_voc(*split(6), predictions))
    ones = np.ones((2, 12), int)
    whole = per_image.metrics(ones)
    asked = []
    original = average_precision.MatchedDetections.average_precision

    def spy(self, weights, fraction, area=0, ious=(0,)):
        asked.append((area, tuple(ious)))
        return original(self, weights, fraction, area, ious)

    with mock.patch.object(average_precision.MatchedDetections, "average_precision", spy):
        some = per_image.metrics(ones, ["AR/10", "AP75", "AP/small"])
    assert list(some) == ["AR/10", "AP75", "AP/small"]
    assert sorted(asked) == [(0, (5,)), (1, tuple(range(10)))]
    np.testing.assert_equal(some, {name: whole[name] for name in some})


def test_masks_and_boundaries_weighted_are_images_repeated(
    tmp_path, bitmap_source, record, predictions, instances
):
    def evaluated(records, masks, found, shapes):
        evaluator = CocoInstanceEvaluator(bitmap_source(records, masks), CLASSES)
        evaluator.add(*instances(*predictions(records, found), shapes))
        return evaluator.report()

    rng = np.random.default_rng(3)
    y, x = np.mgrid[:28, :28]
    records, masks, found, shapes = [], [], [], []
    for id in range(6):
        corner, side = rng.integers(0, 30, (4, 2)), rng.integers(20, 90, (4, 2))
        boxes = np.concatenate([corner, corner + side], axis=1)
        # True masks lack a corner of their box, predicted ones more or less of it; one shape is not known.
        masks.append(np.zeros((4, 120, 130), bool))
        for mask, (x1, y1, x2, y2) in zip(masks[-1], boxes, strict=True):
            mask[y1:y2, x1:x2] = True
            mask[y1 : y1 + 12, x1 : x1 + 9] = False
        masks[-1][3] &= id > 0
        labels = rng.integers(0, 3, 4)
        records.append(record(9 - id, boxes, labels, rng.random(4) < 0.2, (120, 130)))
        near = np.repeat(boxes, 2, axis=0) + rng.normal(0, 1, (8, 4))
        found.append((np.clip(near, 0, 120), rng.random(8).round(1), np.repeat(labels, 2)))
        shapes.append((x + y > rng.integers(0, 25, (8, 1, 1))).astype(np.float32))
    own = evaluated(records, masks, found, shapes)
    per_image = kept(tmp_path, own)
    assert set(per_image.names) == set(own.metrics)
    assert 0.05 < own.metrics["boundary/AP"] < own.metrics["mask/AP"] < own.metrics["AP"] < 0.95
    weights = np.array([2, 0, 1, 3, 0, 1])
    metrics = per_image.metrics(np.stack([np.ones(6, int), weights]))
    assert_equal({n: v[0] for n, v in metrics.items()}, own.metrics)
    often = evaluated(
        repeated_records(records, weights), *(repeated(each, weights) for each in (masks, found, shapes))
    )
    assert_equal({n: v[1] for n, v in metrics.items()}, often.metrics)


def test_nothing_to_find_is_undefined_and_nothing_found_is_zero(tmp_path, record, predictions):
    empty = record(0, [], [])
    for name, records, found, value in (
        ("no truth", [empty], [([[0, 0, 9, 9]], [0.9], [0])], math.nan),
        ("no images", [], [], math.nan),
        ("no detections", [record(0, [[0, 0, 9, 9]], [1]), record(1, [], [])], [([], [], [])] * 2, 0),
    ):
        folder = tmp_path / name
        folder.mkdir()
        metrics = kept(folder, *coco_and_voc(records, found, predictions)).metrics(
            np.ones((1, len(records)), int)
        )
        for metric in ("AP", "AP50", "AR/100", "VOC/mAP", "VOC/mAP11"):
            np.testing.assert_equal(metrics[metric][0], value, err_msg=f"{metric}, {name}")


@settings(max_examples=150, deadline=None)
@given(seed=seeds, found=st.integers(0, 7), objects=st.integers(0, 5))
def test_matches_are_those_of_pycocotools(seed, found, objects):
    # IoUs on a coarse grid, so that many are equal and many just reach a threshold.
    rng = np.random.default_rng(seed)
    iou = rng.integers(7, 21, (found, objects)) / 20
    crowd, areas = rng.random(objects) < 0.3, rng.uniform(500, 1500, objects)
    thresholds, limits = np.linspace(0.5, 0.95, 10), ((0, 1e10), (0, 1024), (1024, 9216))
    ignored = np.array([crowd | (areas < low) | (areas > high) for low, high in limits])
    right, lost = match_in_image(iou, crowd, ignored, thresholds)
    protocol = COCOeval(iouType="bbox")
    protocol._gts[1, 1] = [
        {"id": g + 1, "area": areas[g], "ignore": int(crowd[g]), "iscrowd": int(crowd[g])}
        for g in range(objects)
    ]
    protocol._dts[1, 1] = [{"id": d + 1, "score": -d, "area": 1024} for d in range(found)]
    protocol.ious = {(1, 1): iou if iou.size else []}
    for a, limit in enumerate(limits):
        expected = protocol.evaluateImg(1, 1, limit, 100)
        if expected is None:
            continue
        matched, ignore = expected["dtMatches"] > 0, expected["dtIgnore"] > 0
        np.testing.assert_array_equal(right[:, a].T, matched & ~ignore)
        np.testing.assert_array_equal(lost[:, a].T, matched & ignore)


def test_a_folder_without_files_and_questions_that_have_no_answer(tmp_path):
    assert read_per_image(tmp_path) is None
    assert read_per_image(tmp_path / "missing") is None
    per_image = PerImage(np.arange(2), (Means({"accuracy": np.ones(2)}),))
    for weights, names, problem in (
        (np.ones((1, 2)), ["accuracy", "AP"], "no AP among accuracy"),
        (np.full((1, 2), 0.5), None, "number"),
        (np.array([[2, -1]]), None, "number"),
        (np.ones((1, 3)), None, "3 images for 2"),
    ):
        with pytest.raises(ValueError, match=problem):
            per_image.metrics(weights, names)
    with pytest.raises(ValueError, match="number"):
        PerImage(np.arange(3), per_image.parts)


def saved(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_broken_and_foreign_files_are_named(tmp_path, split, predictions):
    good, other = tmp_path / "per_image.npz", tmp_path / "per_image_voc.npz"
    kept(tmp_path, *coco_and_voc(*split(0, images=3), predictions))
    content, voc = good.read_bytes(), other.read_bytes()
    other.unlink()
    with np.load(io.BytesIO(content)) as file:
        arrays = {name: file[name] for name in file.files}
    few = {name: array for name, array in arrays.items() if name != "coco/box/wanted"}
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    npy = io.BytesIO()
    np.save(npy, np.arange(3))
    for broken, problem in (
        (b"", "evaluate the run again"),
        (b"not an archive", "evaluate the run again"),
        (content[: len(content) // 2], "evaluate the run again"),
        (bytes(flipped), "evaluate the run again"),
        (npy.getvalue(), "evaluate the run again"),
        (saved(weights=np.ones(3)), "ids"),
        (saved(ids=np.arange(3)), "number"),
        (saved(ids=np.array([{}, 1], object)), "pickle"),
        (saved(ids=np.arange(2.0), **{"means/a": np.ones(2)}), "whole numbers"),
        (saved(ids=np.arange(2), **{"means/a": np.ones(3)}), "number"),
        (saved(ids=np.arange(2), **{"means/a": np.ones((2, 2))}), "one number an image"),
        (saved(ids=np.arange(2), **{"dreams/a": np.ones(2)}), "dreams"),
        (saved(**few), "wanted"),
        (saved(**{**arrays, "coco/box/images": arrays["coco/box/images"] + 3}), "not there"),
        (saved(**{**arrays, "coco/box/right": arrays["coco/box/right"][:, :, :3]}), "number"),
        (saved(**{**arrays, "coco/box/counts": ~arrays["coco/box/counts"]}), "not count"),
        (saved(**{**arrays, "coco/box/scores": arrays["coco/box/labels"]}), "scores are int32"),
        (saved(**{**arrays, "coco/box/wanted": arrays["coco/box/wanted"][0]}), "number"),
        (saved(**{n.replace("box", "egg"): a for n, a in arrays.items()}), "kinds of IoU"),
        (
            saved(
                ids=np.arange(2),
                **{f"pixels/{n}": np.ones((2, 2, 2), int) for n in ("right", "true", "predicted")},
            ),
            "number",
        ),
        (
            saved(
                ids=np.arange(2), **{f"pixels/{n}": np.ones((2, 2)) for n in ("right", "true", "predicted")}
            ),
            "number",
        ),
        (saved(**{**arrays, "coco/box/scores": arrays["coco/box/scores"][1:]}), "number"),
        (saved(**{**arrays, "coco/box/labels": arrays["coco/box/labels"][::-1]}), "order"),
    ):
        good.write_bytes(broken)
        with pytest.raises(UserError, match=problem) as raised:
            read_per_image(tmp_path)
        assert str(good) in str(raised.value)
    good.write_bytes(content)
    other.write_bytes(voc)
    assert {type(part) for part in read_per_image(tmp_path).parts} == {CocoMatches, VocMatches}
    other.write_bytes(content)
    with pytest.raises(UserError, match="same metrics"):
        read_per_image(tmp_path)
    PerImage(np.array([1, 2, 3]), (Means({"accuracy": np.ones(3)}),)).write(other)
    with pytest.raises(UserError, match=r"other images than per_image\.npz") as raised:
        read_per_image(tmp_path)
    assert str(other) in str(raised.value)
