"""Labelling by tiles is labelling the whole image."""

import jax
import numpy as np
import pytest

from tests.batches import segmentation_of
from tests.models.segmentation.networks import NETWORKS
from vision_jax.models.segmentation.segmenter import Segmenter, Views
from vision_jax.models.segmentation.tiles import by_tiles, label_by_tiles
from vision_jax.models.segmentation.unet import UNet
from vision_jax.types import Segmentation, SegmentationBatch, UserError

# Sees (1 + 2 + 1 + 1) pixels around it at most, as it has one 3x3 convolution at strides 1, 2 and 1.
MODEL = Segmenter(UNet(3, (4, 6), blocks=1))


SLOW_SHAPES = [pytest.param(shape, marks=pytest.mark.slow) for shape in ((64, 96), (16, 70), (5, 3))]


def whole_batch(image: np.ndarray) -> SegmentationBatch:
    return segmentation_of(image[None], np.full((1, *image.shape[:2]), -1))


def predictor(model):
    """The predictions of a fresh model."""
    variables = jax.jit(model.init)(jax.random.key(0), whole_batch(np.zeros((8, 8, 3), np.uint8)))
    return jax.jit(lambda batch: model.apply(variables, batch, method="predict"))


@pytest.fixture(scope="module")
def predict():
    return predictor(MODEL)


@pytest.mark.parametrize("shape", [(61, 83), *SLOW_SHAPES, (1, 1)])
def test_tiles_answer_as_the_whole_image_does(predict, shape):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    whole = predict(whole_batch(image))
    seen = np.zeros(shape, int)
    for rows, columns, probabilities in by_tiles(predict, image, (32, 24), overlap=6, stride=2):
        np.testing.assert_allclose(probabilities, whole.probabilities[0, rows, columns], atol=1e-4)
        seen[rows, columns] += 1
    np.testing.assert_array_equal(seen, 1)
    labels = label_by_tiles(predict, image, (32, 24), overlap=6, stride=2)
    assert (labels.shape, labels.dtype) == (shape, np.uint8)
    assert (labels == whole.labels[0]).mean() > 0.999


@pytest.mark.slow
def test_networks_of_other_kinds(tmp_path):
    """With max unpooling; and the labels go where they are wanted."""
    model = Segmenter(NETWORKS["max_unpooling"]())
    image = np.random.default_rng(0).integers(0, 255, (130, 150, 3), np.uint8)
    predict = predictor(model)
    whole = predict(whole_batch(image))
    for rows, columns, probabilities in by_tiles(predict, image, (96, 96), overlap=32, stride=8):
        np.testing.assert_allclose(probabilities, whole.probabilities[0, rows, columns], atol=1e-4)
    out = np.memmap(tmp_path / "labels", np.int16, "w+", shape=(130, 150))
    assert label_by_tiles(predict, image, (96, 96), overlap=32, stride=8, out=out) is out
    assert (out == whole.labels[0]).mean() > 0.999


@pytest.mark.parametrize(
    ("views", "shape", "overlap", "stride"),
    [
        (Views(flip=True), (61, 147), 6, 2),
        pytest.param(Views((0.5, 2.0), flip=True), (60, 148), 16, 4, marks=pytest.mark.slow),
    ],
)
def test_other_views_of_tiles_are_those_of_the_whole_image(views, shape, overlap, stride):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    model = Segmenter(UNet(3, (4, 6), blocks=1), views=views)
    predict = predictor(model)
    whole = predict(whole_batch(image)).probabilities[0]
    for rows, columns, found in by_tiles(predict, image, (64, 48), overlap, stride):
        np.testing.assert_allclose(found, whole[rows, columns], atol=1e-4)


def test_less_overlap_than_it_sees_is_not_enough(predict):
    image = np.random.default_rng(0).integers(0, 255, (61, 83, 3), np.uint8)
    whole = predict(whole_batch(image)).probabilities[0]
    worst = max(
        np.abs(found - whole[rows, columns]).max()
        for rows, columns, found in by_tiles(predict, image, (32, 24), overlap=0, stride=2)
    )
    assert worst > 1e-3


def test_an_image_is_read_by_slices_and_never_whole():
    class Slices:
        shape = (100, 1000, 3)
        largest = 0

        def __getitem__(self, where):
            rows, columns = where
            shape = tuple(
                len(range(*w.indices(n))) for w, n in zip((rows, columns), self.shape[:2], strict=True)
            )
            self.largest = max(self.largest, shape[0] * shape[1])
            return np.zeros((*shape, 3), np.uint8)

    def constant(batch):
        shape = batch.image.shape[:3]
        return Segmentation(np.zeros(shape, np.int32), np.ones((*shape, 1), np.float32))

    image = Slices()
    labels = label_by_tiles(constant, image, (64, 64), overlap=8, stride=8)
    assert labels.shape == (100, 1000)
    assert image.largest == 64 * 64


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [((30, 32), 0, "multiples of the network's stride, 8"), ((32, 32), 16, "answer nothing")],
)
def test_tiles_that_cannot_be_are_refused(tile, overlap, message):
    with pytest.raises(UserError, match=message):
        list(by_tiles(lambda batch: None, np.zeros((100, 100, 3), np.uint8), tile, overlap, 8))
