"""Arrays and tables: shapes, levels, standardisation, and the errors that name the place."""

import numpy as np
import pytest
import torch

from ancestral.data import BINARIZE, load
from ancestral.data.restore import Arrays, Table
from datafiles import everything, integers, npz, one_line, table


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((10, 3, 6, 5), (3, 6, 5)),
        ((10, 6, 5), (1, 6, 5)),
        ((10, 8, 127), (1, 8, 127)),
        ((10, 8, 128), (8, 128)),
        ((10, 1, 16), (1, 16)),
        ((10, 7), (7,)),
    ],
)
def test_shapes_of_arrays(tmp_path, shape, expected):
    x = integers(256, shape).astype(np.uint8)
    np.save(tmp_path / "a.npy", x)
    data = load(tmp_path / "a.npy")
    assert data.shape == expected
    assert everything(data).shape == (10, *expected)
    assert any("taken as" in note for note in data.notes) == (len(shape) == 3)


@pytest.mark.parametrize(
    ("x", "levels", "dtype"),
    [
        (np.array([True, False]), 2, torch.uint8),
        (np.array([0, 1], np.int64), 2, torch.uint8),
        (np.array([0, 1], np.uint8), 2, torch.uint8),
        (np.array([0.0, 1.0]), 2, torch.uint8),
        (np.array([0, 2], np.uint8), 256, torch.uint8),
        (np.array([0, 16], np.int32), 17, torch.uint8),
        (np.array([0.0, 16.0], np.float32), 17, torch.uint8),
        (np.array([0, 999], np.int64), 1000, torch.int16),
        (np.array([0, 65535], np.uint16), 65536, torch.int32),
        (np.array([0.5, 3.0]), None, torch.float32),
        (np.array([-1.0, 3.0]), None, torch.float32),
    ],
)
def test_levels_of_arrays(tmp_path, x, levels, dtype):
    data = load(npz(tmp_path / "a.npz", train=np.tile(x, (10, 1))))
    assert data.levels == levels
    assert data.splits["train"].x.dtype == dtype
    assert data.splits["train"].x[0].tolist() == x.tolist()
    assert data.restore == Arrays(levels)


def test_levels_are_those_of_all_splits(tmp_path):
    data = load(npz(tmp_path / "a.npz", train=np.zeros((10, 2), int), test=np.full((2, 2), 5)))
    assert data.levels == 6
    assert load(npz(tmp_path / "a.npz", train=np.zeros((10, 2), int), test=np.full((2, 2), 0.5))).levels is None


def nan_at(row: int, *at: int, shape: tuple[int, ...] = (10, 4)) -> np.ndarray:
    x = np.zeros(shape)
    x[row, *at] = np.nan
    return x


WRONG_ARRAYS = {
    "channels last": (
        {"train": np.zeros((10, 8, 8, 3), np.uint8)},
        ["'train'", "(N, H, W, C)", "transpose(0, 3, 1, 2)"],
    ),
    "one dimension": ({"train": np.zeros(10)}, ["(10,)", "(N, D)"]),
    "five dimensions": ({"train": np.zeros((2, 1, 2, 2, 2))}, ["(2, 1, 2, 2, 2)"]),
    "empty": ({"train": np.zeros((10, 2)), "test": np.zeros((0, 2))}, ["'test'", "(0, 2)"]),
    "shapes": ({"train": np.zeros((10, 2)), "test": np.zeros((9, 3))}, ["train has (10, 2)", "test has (9, 3)"]),
    "negative": ({"train": np.full((10, 2), -7)}, ["negative", "-7", "add 7"]),
    "large": ({"train": np.full((10, 2), 65536)}, ["65536", "16 bits"]),
    "nan": ({"test": nan_at(3, 2)}, ["'test'", "nan", "row 3", "column 2"]),
    "nan in a picture": ({"test": nan_at(3, 0, 2, 1, shape=(5, 1, 3, 3))}, ["row 3", "(0, 2, 1)"]),
    "text": ({"train": np.array([["a", "b"]] * 10)}, ["'train'", "<U1"]),
    "objects": ({"train": np.array([[None, 1]] * 10)}, ["train", "Python objects"]),
    "names": ({"a": np.zeros((10, 2)), "b": np.zeros((10, 2))}, ["a, b", "train, valid, test"]),
    "label length": ({"train": np.zeros((10, 2)), "train_label": np.zeros(9, int)}, ["train_label", "(9,)", "(10,)"]),
    "label dtype": ({"train": np.zeros((10, 2)), "train_label": np.zeros(10)}, ["train_label", "float64"]),
    "negative label": ({"train": np.zeros((10, 2)), "train_label": np.full(10, -1)}, ["train_label", "-1"]),
    "one label": (
        {"train": np.zeros((10, 2)), "test": np.zeros((10, 2)), "test_label": np.zeros(10, int)},
        ["no train_label", "both, or neither"],
    ),
}


@pytest.mark.parametrize("name", WRONG_ARRAYS)
def test_wrong_arrays(tmp_path, name):
    arrays, parts = WRONG_ARRAYS[name]
    with pytest.raises(ValueError, match=r".") as error:
        load(npz(tmp_path / "a.npz", **arrays))
    one_line(error, *parts)


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
@pytest.mark.parametrize("keep", [0, 3, 200])
def test_damaged_array_files(tmp_path, name, keep):
    path = tmp_path / name
    (np.save if name == "a.npy" else np.savez)(path, np.zeros((100, 2)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="damaged") as error:
        load(path)
    one_line(error, name)


def test_damaged_member_is_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, train=integers(256, (100, 50)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"damaged.*train"):
        load(path)


def test_size_is_for_pictures(tmp_path):
    with pytest.raises(ValueError, match=r"size=4 is for pictures.*\(3,\)"):
        load(npz(tmp_path / "a.npz", train=np.zeros((10, 3))), size=4)


# tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", [("a", "b", "c"), ()])
def test_continuous_tables_are_standardised_by_their_train_part(tmp_path, delimiter, header):
    rows = torch.randn(60, 3).double().numpy() * [1, 20, 0.1] + [0, 100, 5]
    data = load(table(tmp_path / "a.csv", rows.tolist(), header, delimiter))
    assert (data.shape, data.levels) == ((3,), None)
    assert [len(part) for part in data.splits.values()] == [48, 6, 6]
    train = data.splits["train"].x
    assert train.dtype == torch.float32
    assert torch.allclose(train.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(train.std(0, correction=0), torch.ones(3), atol=1e-5)
    assert data.restore.columns == (header or ("column 1", "column 2", "column 3"))
    back = data.restore(everything(data))
    assert np.allclose(back[np.argsort(back[:, 0])], rows[np.argsort(rows[:, 0])], rtol=1e-5)


def test_binary_tables(tmp_path):
    rows = integers(2, (20, 4))
    data = load(table(tmp_path / "a.csv", rows.tolist(), ("a", "b", "c", "")))
    assert data.levels == 2
    assert data.splits["train"].x.dtype == torch.uint8
    assert sorted(everything(data).tolist()) == sorted(rows.tolist())
    assert data.restore == Table(("a", "b", "c", "column 4"))


def test_categorical_tables_are_coded_in_order(tmp_path):
    rows = np.stack([np.array([-5, 0, 7, 1000])[integers(4, (50,))], 3 + integers(2, (50,))], axis=1)
    rows[:4, 0], rows[:2, 1] = (-5, 0, 7, 1000), (3, 4)
    data = load(table(tmp_path / "a.csv", rows.tolist(), ("a", "b")))
    assert data.levels == 4
    assert data.restore == Table(("a", "b"), values=((-5, 0, 7, 1000), (3, 4)))
    assert sorted(data.restore(everything(data)).tolist()) == sorted(rows.tolist())
    assert data.splits["train"].x[:, 1].max() == 1
    assert np.isnan(data.restore(torch.tensor([[0, 2]]))[0, 1])


def test_integers_of_many_values_are_continuous(tmp_path):
    rows = np.stack([np.arange(300), np.arange(300) % 10], axis=1)
    data = load(table(tmp_path / "a.csv", rows.tolist(), ("a", "b")))
    assert data.levels is None
    assert any("b (10)" in note for note in data.notes)


def rows_with(cell: str) -> list[list[str]]:
    rows = [[str(i), str(i / 7)] for i in range(20)]
    rows[4][1] = cell
    return rows


WRONG_TABLES = {
    "text": (rows_with("red"), ["column 'b'", "'red'", "row 6"]),
    "nan": (rows_with("NaN"), ["NaN", "row 6", "column 'b'"]),
    "infinite": (rows_with("-inf"), ["-inf", "row 6", "column 'b'"]),
    "empty cell": (rows_with(""), ["an empty cell", "row 6", "column 'b'"]),
    "ragged": ([*rows_with("1"), ["1", "2", "3"]], ["row 22", "3 cells", "row 1 has 2"]),
    "mixed": ([[i % 2, i / 7] for i in range(20)], ["mixed table", "a are discrete"]),
    "constant": ([[i / 7, 4.5] for i in range(20)], ["constant columns: b"]),
    "all constant": ([[3, 4]] * 20, ["every column is constant"]),
    "no rows": ([], ["no rows"]),
    "few rows": ([[i / 7, i / 9] for i in range(9)], ["9 examples are too few"]),
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_wrong_tables(tmp_path, name):
    rows, parts = WRONG_TABLES[name]
    with pytest.raises(ValueError, match=r".") as error:
        load(table(tmp_path / "a.csv", rows, ("a", "b")))
    one_line(error, *parts)


def test_wrong_cells_without_a_header(tmp_path):
    with pytest.raises(ValueError, match="an empty cell in row 5, column '2'"):
        load(table(tmp_path / "a.csv", rows_with("")))


def test_a_byte_order_mark_is_no_header(tmp_path):
    (tmp_path / "a.csv").write_text("0,1\n" * 10, encoding="utf-8-sig")
    data = load(tmp_path / "a.csv")
    assert len(everything(data)) == 10
    assert data.restore.columns == ("column 1", "column 2")


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / "empty.csv").write_text("\n\n")
    with pytest.raises(ValueError, match="is empty"):
        load(tmp_path / "empty.csv")
    (tmp_path / "latin.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        load(tmp_path / "latin.csv")


@pytest.mark.parametrize("option", [{"size": 4}, {"bits": 2}, {"binarize": BINARIZE["static"]}])
def test_options_of_pictures_on_a_table(tmp_path, option):
    with pytest.raises(ValueError, match="is a table"):
        load(table(tmp_path / "a.csv", [[0, 1]] * 10), **option)
