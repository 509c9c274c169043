"""From levels back to what a user opens."""

import json
import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from PIL import Image

from ancestral.data import grid, rebuild, record
from ancestral.data.pictures import read_picture
from ancestral.data.restore import Arrays, Pictures, Table
from datafiles import one_line, picture


@pytest.mark.parametrize(
    "value", [Pictures(17), Arrays(None), Table(("a", "b"), (0.5, 1.0), (2.0, 3.0)), Table(("a",), values=((1, 5),))]
)
def test_restore_values_survive_json(value):
    assert rebuild(json.loads(json.dumps(record(value)))) == value
    with pytest.raises(FrozenInstanceError):
        value.levels = 3


def test_rebuild_names_what_there_is():
    with pytest.raises(ValueError, match="'Sounds' is unknown: there are Pictures, Audio, Table, Arrays"):
        rebuild({"class": "Sounds", "arguments": {}})


@pytest.mark.parametrize(
    ("levels", "channels", "mode", "white"),
    [(2, 1, "L", 255), (17, 1, "L", 255), (256, 3, "RGB", 255), (65536, 1, "I;16", 65535), (65536, 3, "RGB", 255)],
)
def test_pictures(levels, channels, mode, white):
    x = torch.randint(0, levels, (2, channels, 3, 4))
    x[0, 0, 0, :2] = torch.tensor([0, levels - 1])
    first, second = Pictures(levels)(x.float())
    assert (first.mode, first.size) == (mode, (4, 3))
    values = np.asarray(second).astype(float)
    expected = x[1].double().numpy() * white / (levels - 1)
    assert np.abs((values[None] if channels == 1 else values.transpose(2, 0, 1)) - expected).max() <= 0.5
    corner = np.asarray(first)[0, :2].reshape(2, -1)[:, 0]
    assert corner.tolist() == [0, white]


def test_a_picture_comes_back_as_it_was(tmp_path):
    for top, dtype in ((256, np.uint8), (65536, np.uint16)):
        x = picture(tmp_path / "a.png", top=top, dtype=dtype)
        got = read_picture(tmp_path / "a.png")
        Pictures(got.levels).save(torch.from_numpy(got.x[None]), tmp_path / "b.png")
        with Image.open(tmp_path / "b.png") as image:
            assert np.array_equal(np.asarray(image), x)


def test_grid():
    tiles = [Image.fromarray(np.full((2, 3), i, np.uint8)) for i in range(5)]
    whole = np.asarray(grid(tiles, columns=2))
    assert whole.shape == (8, 7)
    assert (whole[0:2, 0:3] == 0).all()
    assert (whole[3:5, 4:7] == 3).all()
    assert (whole[:, 3] == 255).all()
    assert (whole[6:, 4:] == 255).all()
    assert np.asarray(grid(tiles, scale=4)).shape == (2 * 9 - 1, 3 * 13 - 1)


def test_save_pictures(tmp_path):
    x = torch.randint(0, 17, (4, 1, 8, 8))
    Pictures(17).save(x, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (2 * 65 - 1, 2 * 65 - 1)
    Pictures(17).save(x, tmp_path / "a.npz")
    Pictures(17).save(x, tmp_path / "a.npy")
    for stored in (np.load(tmp_path / "a.npz")["x"], np.load(tmp_path / "a.npy")):
        assert stored.dtype == np.uint8
        assert np.array_equal(stored, x)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "a.npz", "a.png"]


def test_save_tables(tmp_path):
    Table(("a", "b"), mean=(0.5, 100.0), std=(2.0, 10.0)).save(torch.tensor([[1.0, -1.0]]), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "a,b\n2.5,90\n"
    Table(("a", "b"), values=((3, 4), (7,))).save(torch.tensor([[1, 0], [0, 1]]), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "a,b\n4,7\n3,\n"
    Table(("a",)).save(torch.tensor([[1]]), tmp_path / "a.npy")
    assert np.load(tmp_path / "a.npy").tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("value", "shape", "fits"),
    [
        (Pictures(2), (1, 1, 2, 2), ".png, .npz, .npy"),
        (Table(("a",)), (1, 1), ".csv, .npz, .npy"),
        (Arrays(2), (1, 1), ".npz, .npy"),
    ],
)
def test_save_refuses_other_files(tmp_path, value, shape, fits):
    with pytest.raises(ValueError, match=re.escape(fits)) as error:
        value.save(torch.zeros(shape), tmp_path / "a.xls")
    one_line(error, "a.xls")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=re.escape(f"cannot write {tmp_path / 'file' / 'a.npz'}")):
        value.save(torch.zeros(shape), tmp_path / "file" / "a.npz")


def test_arrays_keep_small_integers():
    assert Arrays(256)(torch.tensor([[3.0]])).dtype == np.uint8
    assert Arrays(65536)(torch.tensor([[65535]])).tolist() == [[65535]]
    assert Arrays(None)(torch.tensor([[0.25]], dtype=torch.bfloat16)).tolist() == [[0.25]]
