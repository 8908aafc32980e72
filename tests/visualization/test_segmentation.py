"""Pictures of classes and label maps, and what all pictures are made of."""

import numpy as np
from PIL import Image

from tests.batches import classification_of, segmentation_of
from vision_jax.types import Classification, Segmentation
from vision_jax.visualization import (
    plot_classification_batch,
    plot_classifications,
    plot_labels,
    plot_segmentation_batch,
    plot_segmentations,
    save_png,
)
from vision_jax.visualization.canvas import (
    WRONG,
    Cell,
    class_colors,
    display_scale,
    fit_text,
    ink_on,
    mark_padding,
    plot_grid,
    resize_picture,
    text_width,
)
from vision_jax.visualization.segmentation import _ERROR

CLASSES = ("sky", "road", "tree")


def count(picture, color):
    return int((picture == np.asarray(color, np.uint8)).all(axis=-1).sum())


def classification(labels, answers):
    n = len(labels)
    batch = classification_of(np.full((n, 28, 28, 3), 90, np.uint8), labels)
    return batch, Classification(np.array(answers, np.int32), np.full((n, 3), 1 / 3, np.float32))


def segmentation(truth, answer):
    truth, answer = np.array(truth, np.int32), np.array(answer, np.int32)
    b, h, w = truth.shape
    image = np.full((b, h, w, 3), 90, np.uint8)
    return segmentation_of(image, truth), Segmentation(answer, np.zeros((b, h, w, 3), np.float32))


def test_wrong_answers_are_framed_and_unknown_ones_are_not():
    batch, right = classification([0, 1, 2], [0, 1, 2])
    _, wrong = classification([0, 1, 2], [0, 1, 0])
    unknown, _ = classification([-1, -1, -1], [0, 1, 0])
    # 28 pixels are shown 4 times as large; the frame is 3 thick, 3 outside.
    frame = 118**2 - 112**2
    assert count(plot_classifications(batch, right, CLASSES), WRONG) == 0
    assert frame < count(plot_classifications(batch, wrong, CLASSES), WRONG) < 1.2 * frame
    assert count(plot_classifications(unknown, wrong, CLASSES), WRONG) == 0


def test_a_classification_batch_is_a_grid_of_its_valid_images():
    batch, _ = classification([0] * 20, [0] * 20)
    picture = plot_classification_batch(batch, CLASSES, most=18)
    assert picture.shape[1] == 2 * 16 + 8 * 112 + 7 * 10
    assert count(picture, (90, 90, 90)) == 18 * 112 * 112
    fewer = plot_classification_batch(batch.replace(example_valid=np.arange(20) < 3), CLASSES)
    assert count(fewer, (90, 90, 90)) == 3 * 112 * 112


def test_labels_take_their_colors_and_void_shows_the_image_in_gray():
    image = np.zeros((2, 3, 3), np.uint8)
    image[..., 0] = 90
    labels = np.array([[0, 1, -1], [2, -1, 0]])
    colors = class_colors(3)
    opaque = plot_labels(image, labels, CLASSES, opacity=1.0)
    np.testing.assert_array_equal(opaque[0], [colors[0], colors[1], [30, 30, 30]])
    half = plot_labels(image, labels, CLASSES, opacity=0.5)
    np.testing.assert_array_equal(half[1, 0], np.rint(15 + colors[2] / 2))


def test_errors_are_as_large_as_they_are():
    truth = [[[0] * 16] * 8 + [[-1] * 16] * 8]
    answer = np.zeros((1, 16, 16), np.int32)
    answer[0, :4] = 1
    answer[0, 12:] = 1  # over void: no error
    picture = plot_segmentations(*segmentation(truth, answer), CLASSES)
    # 16 pixels are shown 20 times as large: a quarter of 320 x 320 is wrong, less a soft border.
    wrong = count(picture, _ERROR)
    assert 0.8 * 320 * 80 < wrong < 320 * 80 + 300
    assert picture.shape[1] == 2 * 16 + 4 * 320 + 3 * 10
    unknown = plot_segmentations(*segmentation(np.full((1, 16, 16), -1), answer), CLASSES)
    assert count(unknown, _ERROR) == 0
    assert unknown.shape[1] == 2 * 16 + 2 * 320 + 10


def test_a_segmentation_batch_shows_image_beside_truth():
    batch, _ = segmentation(np.zeros((3, 16, 16)), np.zeros((3, 16, 16)))
    picture = plot_segmentation_batch(batch, CLASSES, most=2)
    assert picture.shape[1] == 2 * 16 + 4 * 320 + 3 * 10
    assert 2 * 320 * 320 <= count(picture, (90, 90, 90)) < 2 * 320 * 320 + 100
    overlaid = np.rint(0.35 * 90 + 0.65 * class_colors(3)[0].astype(float))
    assert count(picture, overlaid) == 2 * 320 * 320


def test_class_colors_differ_for_every_kind_of_color_vision():
    colors = class_colors(7).astype(float) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    # Vienot, Brettel and Mollon (1999): what protanopes and deuteranopes see, in linear RGB.
    blind = (
        np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
        np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    )
    for seen in (linear, *(linear @ matrix.T for matrix in blind)):
        perceived = np.clip(seen, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(perceived[:, None] - perceived[None], axis=-1) + np.eye(7)
        assert apart.min() > 0.12
    many = class_colors(200)
    assert len(np.unique(many, axis=0)) > 190
    np.testing.assert_array_equal(many[:7], class_colors(7))


def test_text_reads_and_fits():
    assert ink_on((255, 255, 0)) == (0, 0, 0)
    assert ink_on((0, 0, 160)) == (255, 255, 255)
    assert fit_text("short", 13, 200) == "short"
    cut = fit_text("a very long caption that will not fit", 13, 90)
    assert cut.endswith("\u2026")
    assert 60 < text_width(cut, 13) <= 90
    assert fit_text("anything", 13, 2) == ""


def test_sizes_on_the_page():
    assert display_scale(240, 320) == 1.5
    assert display_scale(800, 500) == 0.8
    assert display_scale(600, 500) == 1.0
    checks = (np.indices((2, 2)).sum(axis=0) % 2)[..., None].repeat(3, -1).astype(np.uint8) * 255
    assert resize_picture(checks, 0.5).tolist() == [[[128] * 3]]
    np.testing.assert_array_equal(resize_picture(checks, 4.0), checks.repeat(4, 0).repeat(4, 1))


def test_padding_is_hatched_and_content_is_kept():
    image = np.zeros((20, 20, 3), np.uint8)
    marked = mark_padding(image, 10, 15)
    assert (marked[:10, :15] == 0).all()
    assert marked[10:].min() > 200
    assert marked[:, 15:].min() > 200
    assert len(np.unique(marked[10:])) == 2


def test_a_grid_holds_every_picture_where_it_belongs(tmp_path):
    cells = [Cell(np.full((30, 100 + 10 * i, 3), 10 * i + 5, np.uint8), f"cell {i}") for i in range(5)]
    page = plot_grid(cells, 4, [("a class", (10, 200, 30))], note="word " * 200)
    for i in range(5):
        assert count(page, (10 * i + 5,) * 3) >= 30 * (100 + 10 * i)
    assert page.shape[1] == 2 * 16 + 4 * 140 + 3 * 10
    assert count(page, (10, 200, 30)) == 12 * 12
    save_png(tmp_path / "new" / "page.png", page)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "page.png")), page)


def test_an_image_without_labels_has_no_share_of_right_pixels(monkeypatch):
    plotted = []

    def watched(cells, *settings):
        plotted.extend(cells)
        return plot_grid(cells, *settings)

    monkeypatch.setattr("vision_jax.visualization.segmentation.plot_grid", watched)
    batch, answer = segmentation([[[0, 1]], [[-1, -1]]], [[[0, 0]], [[0, 0]]])
    plot_segmentations(batch, answer, CLASSES)
    assert [cell.caption for cell in plotted[3::4]] == [
        "errors: 50.0 % of pixels are right",
        "no pixel has a label",
    ]
