"""Folders of pictures: what is read, what is converted, what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ancestral.data import BINARIZE, load
from ancestral.data.folder import read_pictures
from ancestral.data.pictures import read_picture
from datafiles import everything, integers, npz, one_line, picture


def test_splits_and_classes_of_a_folder(tmp_path):
    kept = {}
    for split, folder in (("train", "Train"), ("valid", "val"), ("test", "test")):
        for label in ("10", "9"):
            kept[split, label] = picture(tmp_path / folder / label / "a.png")
    picture(tmp_path / "train" / "9" / ".hidden.png", (2, 2))
    (tmp_path / "train" / "notes.txt").write_text("no picture")
    data = load(tmp_path)
    assert data.classes == ("9", "10")
    assert (data.shape, data.levels, data.notes) == ((1, 6, 5), 256, ())
    for (split, label), x in kept.items():
        part = data.splits[split]
        (i,) = (part.labels == data.classes.index(label)).nonzero()
        assert np.array_equal(part.x[i[0], 0], x)


def test_a_folder_without_splits_or_classes(tmp_path):
    pictures = [picture(tmp_path / f"{i:02}.png", (6, 5, 3)) for i in range(20)]
    data = load(str(tmp_path))
    assert (data.classes, data.shape) == (None, (3, 6, 5))
    assert [len(part) for part in data.splits.values()] == [16, 2, 2]
    found = {bytes(x.numpy().tobytes()) for x in everything(data)}
    assert found == {p.transpose(2, 0, 1).tobytes() for p in pictures}


def test_one_class_is_no_label(tmp_path):
    for i in range(10):
        picture(tmp_path / "train" / "all" / f"{i}.png")
    data = load(tmp_path)
    assert data.classes is None
    assert data.splits["train"].labels is None
    assert any("'all'" in note for note in data.notes)


@pytest.mark.parametrize(
    ("inside", "beside"), [("train/a.png", "a.png"), ("cats/a.png", "a.png"), ("train/cats/a.png", "train/a.png")]
)
def test_pictures_beside_the_folders(tmp_path, inside, beside):
    picture(tmp_path / inside)
    picture(tmp_path / beside)
    with pytest.raises(ValueError, match="beside") as error:
        load(tmp_path)
    one_line(error, str(tmp_path / inside), str(tmp_path / beside))


def test_folders_without_pictures(tmp_path):
    with pytest.raises(ValueError, match="it is empty"):
        load(tmp_path)
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"other files \(1\), such as a\.txt"):
        load(tmp_path)


def test_grey_among_colour_becomes_rgb(tmp_path):
    grey = picture(tmp_path / "test" / "a.png")
    for i in range(10):
        picture(tmp_path / "train" / f"{i}.png", (6, 5, 3))
    data = load(tmp_path)
    assert data.shape == (3, 6, 5)
    assert np.array_equal(data.splits["test"].x[0], np.stack([grey] * 3))
    assert "1 grey pictures converted to RGB" in data.notes


def test_depths(tmp_path):
    one = picture(tmp_path / "one.png", top=2, dtype=bool)
    sixteen = picture(tmp_path / "sixteen.png", top=65536, dtype=np.uint16)
    (tmp_path / "sixteen.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([1, 2, 255, 255]))
    assert read_picture(tmp_path / "one.png").levels == 2
    assert np.array_equal(read_picture(tmp_path / "one.png").x[0], one)
    assert read_picture(tmp_path / "sixteen.png").levels == 65536
    assert np.array_equal(read_picture(tmp_path / "sixteen.png").x[0], sixteen)
    assert read_picture(tmp_path / "sixteen.pgm").x.tolist() == [[[258, 65535]]]
    x, levels = read_pictures([tmp_path / "sixteen.png"], size=3)
    assert (x.shape, levels) == ((1, 1, 3, 3), 65536)


def test_one_bit_among_eight(tmp_path):
    one = picture(tmp_path / "a.png", top=2, dtype=bool)
    picture(tmp_path / "b.png")
    x, levels = read_pictures([tmp_path / "a.png", tmp_path / "b.png"])
    assert levels == 256
    assert np.array_equal(x[0, 0], one * 255)


def test_mixed_depths(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", top=65536, dtype=np.uint16)
    with pytest.raises(ValueError, match="mixed depth") as error:
        load(tmp_path)
    one_line(error, "a.png", "b.png", "16 bits")


@pytest.mark.parametrize("grey", [True, False])
def test_palettes(tmp_path, grey):
    index = Image.fromarray(integers(4, (6, 5)).astype(np.uint8), mode=None).convert("P")
    colours = [(i * 60,) * 3 if grey else (i * 60, 255 - i * 60, 7) for i in range(4)]
    index.putpalette([value for colour in colours for value in colour])
    index.save(tmp_path / "a.png")
    got = read_picture(tmp_path / "a.png")
    expected = np.asarray(index.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(got.x, expected[:1] if grey else expected)


def test_black_and_white_pictures_of_eight_bits_are_noted(tmp_path):
    for i in range(10):
        Image.fromarray(integers(2, (6, 5)).astype(np.uint8) * 255).save(tmp_path / f"{i}.png")
    data = load(tmp_path)
    assert data.levels == 256
    assert any("--binarize threshold" in note for note in data.notes)
    assert torch.equal(everything(load(tmp_path, binarize=BINARIZE["threshold"])) * 255, everything(data))


def test_pictures_are_turned_upright(tmp_path):
    x = integers(256, (6, 4)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is at the right
    Image.fromarray(x).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "a.png").x[0], np.rot90(x, -1))


def test_the_second_view_of_a_phone_picture_is_ignored(tmp_path):
    views = [Image.fromarray(np.full((8, 8, 3), shade, np.uint8)) for shade in (200, 10)]
    views[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=views[1:])
    assert read_picture(tmp_path / "a.jpg").x.mean() == pytest.approx(200, abs=2)


@pytest.mark.parametrize(
    ("suffix", "shape"), [(".tif", (6, 5)), (".webp", (6, 5, 3)), (".bmp", (6, 5)), (".ppm", (6, 5, 3))]
)
def test_formats(tmp_path, suffix, shape):
    x = integers(256, shape).astype(np.uint8)
    Image.fromarray(x).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    got = read_picture(tmp_path / f"a{suffix}").x
    assert np.array_equal(got, x[None] if x.ndim == 2 else x.transpose(2, 0, 1))


def test_mixed_sizes(tmp_path):
    for i in range(9):
        picture(tmp_path / f"a{i}.png", (8, 9))
    picture(tmp_path / "b.png", (8, 10))
    with pytest.raises(ValueError, match="mixed sizes") as error:
        load(tmp_path)
    one_line(error, "a0.png is 9x8", "b.png is 10x8", "--size N")
    assert load(tmp_path, size=4).shape == (1, 4, 4)
    assert load(tmp_path, size=(4, 3)).shape == (1, 4, 3)


def test_size_is_the_mean_of_the_middle(tmp_path):
    x = integers(256, (8, 20)).astype(np.uint8)
    Image.fromarray(x).save(tmp_path / "a.png")
    means = x[:, 6:14].reshape(4, 2, 4, 2).mean((1, 3))
    got = read_picture(tmp_path / "a.png", size=4).x[0]
    assert np.abs(got - means).max() <= 1  # Pillow rounds the rows, then the columns
    arrays = load(npz(tmp_path / "a.npz", test=x[None, None]), size=4).splits["test"].x[0, 0]
    assert np.abs(arrays.numpy() - means).max() <= 0.5
    rows = read_picture(tmp_path / "a.png", size=(8, 10)).x[0]
    assert np.array_equal(rows, x[:, 5:15])


def test_resizing_stays_within_the_levels(tmp_path):
    data = load("digits", size=5)
    assert data.shape == (1, 5, 5)
    assert data.splits["train"].x.max() <= 16
    picture(tmp_path / "a.png", (9, 9), top=2, dtype=bool)
    assert set(np.unique(read_picture(tmp_path / "a.png", size=4).x)) <= {0, 1}


@pytest.mark.parametrize("size", [0, -3, 2.5, (4, 0), (4, 4, 4)])
def test_wrong_sizes(size):
    with pytest.raises(ValueError, match=re.escape(f"size={size!r}: give one positive integer, or two")):
        load("digits", size=size)


def spoil(path: Path, kind: str) -> None:
    picture(path, (64, 64))
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "garbage": b"not a picture", "empty": b""}[kind])


@pytest.mark.parametrize("kind", ["truncated", "garbage", "empty"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".bmp"])
def test_damaged_pictures(tmp_path, kind, suffix):
    good = [picture(tmp_path / f"good{i:02}.png", (64, 64)) for i in range(10)]
    spoil(tmp_path / f"bad{suffix}", kind)
    spoil(tmp_path / "worse.png", kind)
    with pytest.raises(OSError, match="cannot be read") as error:
        load(tmp_path)
    one_line(error, f"bad{suffix}", "nor can 1 more", "--skip-bad")
    data = load(tmp_path, skip_bad=True)
    assert len(everything(data)) == len(good)
    assert any(note.startswith("2 pictures that cannot be read") for note in data.notes)


def test_nothing_but_damaged_pictures(tmp_path):
    spoil(tmp_path / "a.png", "garbage")
    with pytest.raises(OSError, match="repair or remove them"):
        load(tmp_path, skip_bad=True)


def with_alpha(path: Path) -> None:
    Image.fromarray(integers(256, (4, 4, 4)).astype(np.uint8)).save(path)


def with_transparent_palette(path: Path) -> None:
    Image.fromarray(integers(4, (4, 4)).astype(np.uint8)).convert("P").save(path, transparency=1)


def with_grey_alpha(path: Path) -> None:
    Image.fromarray(integers(256, (4, 4)).astype(np.uint8)).convert("LA").save(path)


def with_frames(path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), i * 99, np.uint8)) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def deep_png(path: Path) -> None:
    """A 16-bit RGB PNG, which Pillow cannot write: an 8-bit one with another header."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + bytes(range(24)) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def deep_ppm(path: Path) -> None:
    path.write_bytes(b"P6\n# a comment\n2 2\n65535\n" + bytes(24))


def deep_tiff(path: Path) -> None:
    import struct

    entries = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 300)]
    entries += [(277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, 24)]
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    content = bytearray(324)
    content[:8] = b"II*\0" + struct.pack("<I", 8)
    content[8 : 8 + len(ifd)] = ifd
    content[200:206] = struct.pack("<HHH", 16, 16, 16)
    path.write_bytes(bytes(content))


def cmyk(path: Path) -> None:
    Image.new("CMYK", (4, 4)).save(path)


@pytest.mark.parametrize(
    ("write", "name", "reason", "fix"),
    [
        (with_alpha, "a.png", "transparency", "flatten"),
        (with_grey_alpha, "a.png", "transparency", "flatten"),
        (with_transparent_palette, "a.png", "transparency", "flatten"),
        (with_transparent_palette, "a.gif", "transparency", "flatten"),
        (with_frames, "a.gif", "3 frames", "of its own"),
        (with_frames, "a.tif", "3 frames", "of its own"),
        (deep_png, "a.png", "16-bit colour", "8-bit RGB"),
        (deep_ppm, "a.ppm", "16-bit colour", "8-bit RGB"),
        (deep_tiff, "a.tif", "16-bit colour", "8-bit RGB"),
        (cmyk, "a.jpg", "mode CMYK", "convert"),
    ],
)
def test_pictures_that_would_be_changed_are_refused(tmp_path, write, name, reason, fix):
    write(tmp_path / name)
    for i in range(10):
        picture(tmp_path / f"b{i}.png", (4, 4))
    with pytest.raises(ValueError, match=reason) as error:
        load(tmp_path, skip_bad=True)
    one_line(error, name, fix)
