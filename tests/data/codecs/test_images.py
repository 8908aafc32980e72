"""Image files of every kind come out as the 8-bit RGB that was put in, upright."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.codecs.images import Encoded, read_image, read_indices, read_size
from vision_jax.types import UserError

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)


def _gray3(values):
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=-1)


def test_rgb_is_unchanged_and_writable(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(image, PICTURE)
    assert image.dtype == np.uint8
    image[0, 0] = 1  # an array of its own


def test_gray_images_get_three_equal_channels(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), _gray3(GRAY))


def test_bilevel_is_black_and_white(tmp_path):
    Image.fromarray(GRAY > 127).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), _gray3((GRAY > 127) * 255))


def test_an_alpha_channel_is_dropped(tmp_path):
    alpha = RNG.integers(0, 256, (6, 9, 1), dtype=np.uint8)
    Image.fromarray(np.concatenate([PICTURE, alpha], axis=-1)).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), PICTURE)
    Image.fromarray(np.concatenate([GRAY[..., None], alpha], axis=-1)).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), _gray3(GRAY))


@pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff"])
@pytest.mark.filterwarnings("error")
def test_palette_is_looked_up(tmp_path, transparency):
    colors = np.array([[255, 0, 0], [0, 200, 10], [1, 2, 3]], np.uint8)
    indices = RNG.integers(0, 3, (6, 9), dtype=np.uint8)
    image = Image.fromarray(indices, mode="L")
    image.putpalette(colors.ravel().tolist())
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "x.png", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), colors[indices])
    np.testing.assert_array_equal(read_indices(tmp_path / "x.png"), indices)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257, 300], [32768, 65278, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"x{suffix}")
    expected = [[0, 1, 1], [128, 254, 255]]  # value / 257, rounded: 300 / 257 = 1.17, 32768 / 257 = 127.50
    np.testing.assert_array_equal(read_image(tmp_path / f"x{suffix}"), _gray3(expected))


def test_sixteen_bit_color_is_scaled(tmp_path):
    import cv2

    wide = PICTURE.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "x.png"), wide[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), PICTURE)


def test_floating_point_images_become_bytes(tmp_path):
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "unit.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "unit.tif"), _gray3([[0, 128, 255]]))
    Image.fromarray(np.array([[0, 7, 255]], np.float32)).save(tmp_path / "bytes.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "bytes.tif"), _gray3([[0, 7, 255]]))
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(UserError, match=r"nan\.tif.*NaN"):
        read_image(tmp_path / "nan.tif")


def test_cmyk_images_become_rgb(tmp_path):
    flat = np.zeros((8, 8, 4), np.uint8)
    flat[:, :4] = [0, 255, 255, 0]  # no cyan, full magenta and yellow: red
    flat[:, 4:] = [0, 0, 0, 255]  # full key: black
    Image.fromarray(flat, mode="CMYK").save(tmp_path / "x.tif")
    image = read_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(image[0, 0], [255, 0, 0])
    np.testing.assert_array_equal(image[0, 7], [0, 0, 0])
    Image.fromarray(flat, mode="CMYK").save(tmp_path / "x.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "x.jpg").astype(int) - image).max() < 12


# what the camera stored, and how the upright picture comes from it (EXIF 2.32, Orientation)
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    path = tmp_path / f"x{suffix}"
    image = Image.fromarray(PICTURE)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    expected = TURNS[orientation](PICTURE)
    np.testing.assert_array_equal(read_image(path), expected)
    assert read_size(path) == expected.shape[:2]


def test_exif_of_a_cameras_image(tmp_path):
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path, exif=exif)
    assert read_size(path) == (30, 20)
    assert read_size(path, upright=False) == (20, 30)
    assert read_image(path).shape == (30, 20, 3)


def test_the_annotated_size_decides_about_turning(tmp_path):
    path = tmp_path / "x.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PICTURE).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path, (9, 6)), np.rot90(PICTURE, -1))
    np.testing.assert_array_equal(read_image(path, (6, 9)), PICTURE)
    with pytest.raises(UserError, match=r"x\.png: the image is 6x9 .* says 5x9"):
        read_image(path, (9, 5))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".gif", ".webp", ".bmp"])
def test_truncated_files_are_named(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    assert read_size(path) == (64, 64)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match=f"x\\{suffix}: "):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"not an image at all", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for read in (read_image, read_size, read_indices):
        with pytest.raises(UserError, match=r"x\.png"):
            read(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.png: no such image file"):
        read_image(tmp_path / "nowhere.png")


def test_label_maps_keep_their_indices(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_indices(tmp_path / "gray.png"), GRAY)
    wide = GRAY.astype(np.uint16) * 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(read_indices(tmp_path / "wide.png"), wide)
    assert read_indices(tmp_path / "wide.png").dtype == np.int32
    Image.fromarray(PICTURE).save(tmp_path / "color.png")
    with pytest.raises(UserError, match=r"color\.png: a label map must be .* stored as colors \(RGB\)"):
        read_indices(tmp_path / "color.png")


def _small_png(values, bits):
    """A gray PNG of 1, 2 or 4 bits a pixel (RFC 2083), which Pillow does not write."""

    def chunk(kind, content):
        end = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + end

    rows = b""
    for row in values:
        line = "".join(format(value, f"0{bits}b") for value in row)
        line += "0" * (-len(line) % 8)
        rows += b"\0" + bytes(int(line[i : i + 8], 2) for i in range(0, len(line), 8))
    header = struct.pack(">IIBBBBB", len(values[0]), len(values), bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_label_maps_of_few_bits_keep_their_indices(tmp_path, bits):
    values = [[0, 1, 2**bits - 1], [1, 0, 2**bits - 2]]
    (tmp_path / "x.png").write_bytes(_small_png(values, bits))
    np.testing.assert_array_equal(read_indices(tmp_path / "x.png"), values)
    white = [[value * 255 // (2**bits - 1) for value in row] for row in values]
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), _gray3(white))


def test_label_maps_of_colors_are_looked_up_where_those_are_known(tmp_path):
    colors = np.array([[9, 9, 9], [0, 0, 0], [1, 0, 0], [0, 0, 1]], np.uint8)
    indices = np.array([[3, 2, 1], [0, 1, 3]])
    for suffix, mode in ((".png", "RGB"), (".png", "RGBA"), (".bmp", "RGB")):
        Image.fromarray(colors[indices]).convert(mode).save(tmp_path / f"x{suffix}")
        found = read_indices(tmp_path / f"x{suffix}", colors)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, indices)
    for color in ([0, 1, 0], [255, 255, 255]):
        pixels = colors[indices]
        pixels[1, 0] = color
        Image.fromarray(pixels).save(tmp_path / "x.png")
        with pytest.raises(UserError, match=r"x\.png: .* at row 1, column 0 \(from 0\) is not one of those"):
            read_indices(tmp_path / "x.png", colors)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[0, -1]], np.int32), "holds -1, which is no class index"),
        (np.array([[0, 2**30]], np.int32), "holds 1073741824, which is no class index"),
        (np.array([[0, 1.5]], np.float32), r"stored as floating point \(F\)"),
    ],
)
def test_numbers_that_are_no_indices_are_refused(tmp_path, values, words):
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(UserError, match=rf"x\.tif: .*{words}"):
        read_indices(tmp_path / "x.tif")


def test_content_of_another_file_is_read_like_a_file():
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PICTURE).save(content, "PNG", exif=exif)
    inside = Encoded(content.getvalue(), "shard 3, record 7")
    stored = PICTURE.shape[:2]
    assert read_size(inside) == stored[::-1]
    assert read_size(inside, upright=False) == stored
    np.testing.assert_array_equal(read_image(inside), np.rot90(PICTURE, -1))
    np.testing.assert_array_equal(read_image(inside, upright=False), PICTURE)
    np.testing.assert_array_equal(read_image(inside, stored, upright=False), PICTURE)
    with pytest.raises(UserError, match="shard 3, record 7: the image is"):
        read_image(inside, stored[::-1], upright=False)
    with pytest.raises(UserError, match="shard 3, record 7: this is a text that begins with 'nothing'"):
        read_size(Encoded(b"nothing", "shard 3, record 7"))
