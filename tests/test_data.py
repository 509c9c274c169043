"""`load` and `Data`: built-in sets, splits, batches, bits and binarization."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_images

from ancestral.data import BINARIZE, SOURCES, load, rebuild
from ancestral.data.restore import Pictures
from datafiles import everything, integers, npz, one_line, picture


def test_digits_are_the_documented_splits():
    data, bunch = load("digits"), load_digits()
    order = np.random.default_rng(0).permutation(1797)
    for split, index in (("valid", order[:179]), ("train", order[179:1437]), ("test", order[1437:])):
        x, labels = data.batch(split, torch.arange(len(index)))
        assert x.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert np.array_equal(x[:, 0].numpy(), bunch.images[index])
        assert np.array_equal(labels.numpy(), bunch.target[index])
    assert (data.shape, data.levels, data.classes) == ((1, 8, 8), 17, tuple("0123456789"))


def test_photos_are_disjoint_patches():
    data = load("photos")
    assert (data.shape, data.levels, data.classes) == ((3, 32, 32), 256, None)
    assert [len(part) for part in data.splits.values()] == [5300, 78, 78]
    china = load_sample_images().images[0]
    assert np.array_equal(data.splits["train"].x[1], china[:32, 8:40].transpose(2, 0, 1))
    assert np.array_equal(data.splits["valid"].x[0], china[:32, 448:480].transpose(2, 0, 1))
    assert np.array_equal(data.splits["test"].x[0], china[:32, 544:576].transpose(2, 0, 1))


def test_photos_take_a_size():
    assert load("photos", size=(40, 48)).shape == (3, 40, 48)
    with pytest.raises(ValueError, match="at most 427 high and 96 wide"):
        load("photos", size=128)


def test_sources_are_lines():
    assert [name for name, _ in SOURCES][:2] == ["digits", "photos"]
    assert len(dict(SOURCES)) == len(SOURCES)
    assert all("\n" not in line and len(line) < 120 for _, line in SOURCES)


@pytest.mark.parametrize(
    ("source", "kind", "parts"),
    [
        ("digit", ValueError, ["'digit'", "did you mean 'digits'", ".npz"]),
        ("nothing", ValueError, ["'nothing'", "photos"]),
        ("no/such.npz", FileNotFoundError, ["no such file", "no/such.npz"]),
        ("no/folder", FileNotFoundError, ["no such file or folder"]),
        ("hf:mnist", ValueError, ["hf:mnist", ".npz"]),
        ("x.parquet", ValueError, ["parquet", ".npz"]),
        (__file__, ValueError, ["test_data.py", "kind that is not read"]),
    ],
)
def test_unknown_sources(source, kind, parts):
    with pytest.raises(kind) as error:
        load(source)
    one_line(error, *parts)


def test_a_folder_named_like_a_built_in_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(10):
        picture(Path("digits") / f"{i}.png")
    assert load("digits").shape == (1, 8, 8)
    assert load("./digits").shape == load(Path("digits")).shape == (1, 6, 5)


# what every Data does


def test_batch_and_limited(tmp_path):
    data = load(npz(tmp_path / "a.npz", train=np.arange(100).reshape(100, 1) % 50, test=np.ones((3, 1), int)))
    index = torch.tensor([5, 0, 5])
    x, labels = data.batch("train", index)
    assert torch.equal(x, data.splits["train"].x[index])
    assert labels is None
    some = data.limited("train", 7, seed=1)
    expected = np.sort(np.random.default_rng(1).permutation(len(data.splits["train"]))[:7])
    assert np.array_equal(some, expected)
    assert not torch.equal(some, data.limited("train", 7, seed=2))
    assert torch.equal(data.limited("test", None), torch.arange(3))
    assert torch.equal(data.limited("test", 99), torch.arange(3))
    with pytest.raises(ValueError, match="limit=0"):
        data.limited("test", 0)
    with pytest.raises(ValueError, match="split='tset': there are train, valid, test"):
        data.batch("tset", index)


def test_made_splits_are_disjoint_seeded_and_said(tmp_path):
    path = npz(tmp_path / "a.npz", x=np.arange(105).reshape(105, 1), x_label=np.arange(105) // 50)
    data = load(path)
    assert [len(part) for part in data.splits.values()] == [85, 10, 10]
    assert sorted(everything(data)[:, 0].tolist()) == list(range(105))
    for part in data.splits.values():
        assert torch.equal(part.labels, part.x[:, 0].long() // 50)
    assert torch.equal(everything(load(path)), everything(data))
    assert not torch.equal(everything(load(path, seed=1)), everything(data))
    assert "no test split in the source: 10 of its 105 examples drawn with seed 0" in data.notes


def test_given_splits_are_kept(tmp_path):
    x = np.arange(300, dtype=np.int16).reshape(100, 3)
    data = load(npz(tmp_path / "a.npz", train=x[:60], test=x[60:]))
    assert np.array_equal(data.splits["test"].x, x[60:])
    assert [len(part) for part in data.splits.values()] == [54, 6, 40]
    only = load(npz(tmp_path / "b.npz", test=x[:4]))
    assert [len(part) for part in only.splits.values()] == [0, 0, 4]
    assert only.splits["train"].x.shape == (0, 3)
    assert any("not trained on" in note for note in only.notes)


def test_negative_seeds():
    with pytest.raises(ValueError, match="seed=-1"):
        load("digits", seed=-1)


def test_too_few_examples(tmp_path):
    with pytest.raises(ValueError, match="9 examples are too few"):
        load(npz(tmp_path / "a.npz", train=np.zeros((9, 2), int)))


def test_describe_is_json_and_rebuilds_the_source(tmp_path):
    path = npz(tmp_path / "a.npz", train=integers(256, (20, 3, 9, 8)).astype(np.uint8))
    data = load(path, size=(4, 6), bits=3, binarize=BINARIZE["static"], seed=2)
    told = data.describe()
    assert json.loads(json.dumps(told)) == told
    assert told["counts"] == {"train": 16, "valid": 2, "test": 2}
    assert (told["source"], told["shape"], told["levels"]) == (str(path), [3, 4, 6], 2)
    assert told["options"] == {"size": [4, 6], "bits": 3, "binarize": "static", "skip_bad": False, "given": None}
    assert rebuild(told["restore"]) == data.restore == Pictures(2)


# bits and binarization


@pytest.mark.parametrize(("top", "dtype", "bits"), [(256, np.uint8, 5), (256, np.uint8, 8), (65536, np.uint16, 12)])
def test_bits_keep_the_top(tmp_path, top, dtype, bits):
    x = integers(top, (10, 1, 4, 4)).astype(dtype)
    x.flat[0] = top - 1
    data = load(npz(tmp_path / "a.npz", train=x, valid=x, test=x), bits=bits)
    assert data.levels == 2**bits
    assert np.array_equal(data.splits["test"].x, x.astype(int) // (top >> bits))
    assert data.restore == Pictures(2**bits)


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_out_of_range(tmp_path, bits):
    with pytest.raises(ValueError, match=f"bits={bits} of 256 levels: it takes 1 to 8 bits"):
        load(npz(tmp_path / "a.npz", train=np.full((10, 2), 255, np.uint8)), bits=bits)


def test_bits_of_other_data(tmp_path):
    with pytest.raises(ValueError, match=r"bits=2 of 17 levels: .*--binarize"):
        load("digits", bits=2)
    with pytest.raises(ValueError, match="got continuous data"):
        load(npz(tmp_path / "a.npz", train=np.full((10, 2), 0.5)), bits=2)


@pytest.fixture
def grey(tmp_path) -> Path:
    x = np.tile(np.array([0, 64, 127, 128, 255], np.uint8), (2000, 1))
    return npz(tmp_path / "grey.npz", train=x, valid=x, test=x)


def test_threshold(grey):
    data = load(grey, binarize=BINARIZE["threshold"])
    assert data.levels == 2
    assert data.splits["test"].x.unique(dim=0).tolist() == [[0, 0, 0, 1, 1]]
    digits = load("digits", binarize=BINARIZE["threshold"])
    assert torch.equal(digits.splits["test"].x, (load("digits").splits["test"].x >= 8).to(torch.uint8))


@pytest.mark.parametrize("name", ["static", "dynamic"])
def test_draws_have_the_intensity_as_their_mean(grey, name):
    data = load(grey, binarize=BINARIZE[name])
    for split, epoch in (("train", 0), ("train", 3), ("test", 0)):
        x, _ = data.batch(split, torch.arange(2000), epoch)
        assert x.dtype == torch.uint8
        mean = x.double().mean(0)
        assert mean[0] == 0
        assert mean[4] == 1
        assert torch.allclose(mean[1:4], torch.tensor([64.0, 127, 128]).double() / 255, atol=0.05)  # 4 sigma


def test_static_draws_once(grey):
    data, index = load(grey, binarize=BINARIZE["static"]), torch.arange(2000)
    for split in ("train", "valid", "test"):
        assert torch.equal(data.batch(split, index, 0)[0], data.batch(split, index, 5)[0])
    assert not torch.equal(data.splits["train"].x, data.splits["valid"].x)
    assert not torch.equal(load(grey, binarize=BINARIZE["static"], seed=1).splits["test"].x, data.splits["test"].x)


def test_dynamic_draws_every_epoch_anew_in_training_only(grey):
    data, index = load(grey, binarize=BINARIZE["dynamic"]), torch.arange(2000)
    epochs = [data.batch("train", index, epoch)[0] for epoch in (0, 1, 2)]
    assert torch.equal(epochs[0], data.splits["train"].x)
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])
    for split in ("valid", "test"):
        assert torch.equal(data.batch(split, index, 0)[0], data.batch(split, index, 7)[0])


def test_dynamic_draws_depend_on_the_epoch_and_the_example_alone(grey):
    data, other = load(grey, binarize=BINARIZE["dynamic"]), load(grey, binarize=BINARIZE["dynamic"])
    whole = data.batch("train", torch.arange(2000), 4)[0]
    data.batch("train", torch.arange(10), 5)
    index = torch.tensor([1999, 3, 1100, 3])
    assert torch.equal(data.batch("train", index, 4)[0], whole[index])
    assert torch.equal(other.batch("train", index, 4)[0], whole[index])


def test_binarize_needs_levels(tmp_path):
    with pytest.raises(ValueError, match="continuous data"):
        load(npz(tmp_path / "a.npz", train=np.full((10, 2), 0.5)), binarize=BINARIZE["static"])


# the benchmark data, unpacked to ordinary files


@pytest.mark.parametrize(
    ("options", "name", "shape", "levels", "counts"),
    [
        (["adult", "a"], "a.npz", (123,), 2, [5000, 1414, 26147]),
        (["power_plant", "a"], "a.npz", (5,), None, [7654, 957, 957]),
        (["cifar10_2500", "a", "--pictures", "--limit", "20"], "a", (3, 32, 32), 256, [18, 2, 20]),
    ],
)
def test_benchmark_data(shared, tmp_path, options, name, shape, levels, counts):
    subprocess.run([sys.executable, shared / "tools" / "unpack.py", *options], cwd=tmp_path, check=True)
    data = load(tmp_path / name)
    assert (data.shape, data.levels) == (shape, levels)
    assert [len(part) for part in data.splits.values()] == counts


def test_where_a_source_lies_is_recorded(tmp_path, monkeypatch):
    npz(tmp_path / "a.npz", train=integers(4, (20, 3)))
    monkeypatch.chdir(tmp_path)
    told = load("a.npz").describe()
    assert (told["name"], told["source"]) == ("a.npz", str((tmp_path / "a.npz").resolve()))
    assert load("digits").describe()["source"] == "digits"
