"""`compress` and `decompress`: real files come back as they were, names stay in their folder, mistakes get one line."""

import io
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from ancestral import checkpoint, data, testing
from ancestral.cli.compressing import webp_size
from ancestral.codec import Entry, Writer, chunks, inputs
from ancestral.codec.extracting import array_of, safe
from ancestral.codec.inputs import npy
from ancestral.data import Audio
from ancestral.data.restore import Pictures, Table
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture, GaussianMixture
from ancestral.model import Model
from ancestral.runs import open_run
from calls import Call
from datafiles import integers, names, npz, picture, pixels, table

GREY = 256


def saved(folder: Path, model: Model, source: data.Data) -> Path:
    checkpoint.save(model, folder, data=source.describe())
    return folder


def described(
    shape: tuple[int, ...], levels: int, restore: data.Restore, classes: tuple[str, ...] | None = None
) -> data.Data:
    options = {"rate": 8000, "linear": True} if isinstance(restore, Audio) else {}
    return data.Data("some", shape, levels, classes, {}, (), restore, options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of tiny models with random weights."""
    root = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    grey = testing.tiny("gated-pixelcnn", shape=(1, 8, 8), likelihood=Categorical(GREY), classes=2)
    rgb = testing.tiny("gated-pixelcnn", shape=(3, 8, 8), likelihood=DiscretizedLogisticMixture(256))
    binary = testing.tiny("gated-pixelcnn", shape=(1, 8, 8), likelihood=Bernoulli())
    latent = testing.tiny("hierarchical-vae", shape=(1, 8, 8), likelihood=Bernoulli())
    linear = testing.tiny("wavenet", shape=(1, 64), likelihood=DiscretizedLogisticMixture(65536))
    mu_law = testing.tiny("wavenet", shape=(1, 64), likelihood=Categorical(256))
    cells = testing.tiny("made", shape=(3,), likelihood=Categorical(4))
    continuous = testing.tiny("made", shape=(3,), likelihood=GaussianMixture(components=2))
    columns = Table(("a", "b", "c"), values=((-1, 0, 5), (0, 1), (10, 20, 30, 4000000000)))
    return {
        "grey": saved(root / "grey", grey, described((1, 8, 8), GREY, Pictures(GREY), ("cats", "dogs"))),
        "rgb": saved(root / "rgb", rgb, described((3, 8, 8), 256, Pictures(256))),
        "binary": saved(root / "binary", binary, described((1, 8, 8), 2, Pictures(2))),
        "latent": saved(root / "latent", latent, described((1, 8, 8), 2, Pictures(2))),
        "linear": saved(root / "linear", linear, described((1, 64), 65536, Audio(8000, 65536, mu_law=False))),
        "mu-law": saved(root / "mu-law", mu_law, described((1, 64), 256, Audio(8000, 256, mu_law=True))),
        "table": saved(root / "table", cells, described((3,), 4, columns)),
        "continuous": saved(root / "continuous", continuous, described((3,), 4, columns)),
    }


def back(call: Call, run: Path, out: Path, *inputs: object) -> tuple[dict, Path]:
    """Compress and decompress; the answer of compress, and the folder that comes back."""
    done = call("compress", run, *inputs, "--out", out.with_suffix(".anc"), "--json")
    assert done.status == 0, done.err
    undone = call("decompress", run, out.with_suffix(".anc"), "--out", out)
    assert undone.status == 0, undone.err
    return done.json, out


# --- what comes back --------------------------------------------------------------------------------------------


def test_a_folder_of_pictures_comes_back(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "in"
    kept = {
        "cats/a b.png": picture(root / "cats" / "a b.png", (8, 8)),
        "dogs/größer.png": picture(root / "dogs" / "größer.bmp", (3, 2)),
        "dogs/größer-2.png": picture(root / "dogs" / "größer.png", (11, 20)),
    }
    Image.fromarray(integers(256, (4, 4, 4)).astype(np.uint8)).save(root / "alpha.png")
    picture(root / "colour.png", (4, 4, 3))
    (root / "notes.txt").write_text("not a picture")
    (root / "broken.png").write_bytes(b"\x89PNG no")
    (root / ".hidden").write_text("x")
    (root / "link.png").symlink_to(root / "alpha.png")
    answer, out = back(call, runs["grey"], tmp_path / "out", root)
    whole = ("alpha.png", "colour.png", "notes.txt", "broken.png")
    assert names(out) == {*whole, *kept}
    for name in whole:
        assert (out / name).read_bytes() == (root / name).read_bytes()
    for name, x in kept.items():
        assert np.array_equal(pixels(out / name), x)
    assert answer["entries"] == 3
    assert answer["left_out"] == 2
    assert sum(answer["kept_as_they_are"].values()) == 4
    assert answer["bytes_out"] == (tmp_path / "out.anc").stat().st_size == answer["parts"]["bytes"]
    assert answer["other_formats"]["png"] > 0


def test_grey_palette_and_one_bit_pictures_keep_their_kind(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    rgb, grey = picture(tmp_path / "c.png", (9, 8, 3)), picture(tmp_path / "g.png", (5, 5))
    bits = Image.fromarray(integers(2, (8, 8)).astype(np.uint8) * 255).convert("1")
    bits.save(tmp_path / "b.png")
    palette = Image.fromarray(rgb).quantize(8)
    palette.save(tmp_path / "p.gif")
    files = [tmp_path / name for name in ("c.png", "g.png", "b.png", "p.gif")]
    answer, out = back(call, runs["rgb"], tmp_path / "out", *files)
    assert answer["kept_as_they_are"] == {}
    assert np.array_equal(pixels(out / "c.png"), rgb)
    assert np.array_equal(pixels(out / "g.png"), grey)
    assert pixels(out / "b.png").dtype == bool
    assert np.array_equal(pixels(out / "b.png"), np.asarray(bits))
    assert np.array_equal(pixels(out / "p.png"), np.asarray(palette.convert("RGB")))


def test_levels_that_quantisation_would_change_are_kept(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    black = integers(2, (8, 8)).astype(np.uint8) * 255
    Image.fromarray(black).save(tmp_path / "black.png")
    picture(tmp_path / "shades.png", (8, 8))
    for run in ("binary", "latent"):
        answer, out = back(call, runs[run], tmp_path / run, tmp_path / "black.png", tmp_path / "shades.png")
        assert answer["entries"] == 1
        assert np.array_equal(pixels(out / "black.png"), black)
        assert (out / "shades.png").read_bytes() == (tmp_path / "shades.png").read_bytes()
    assert answer["parts"]["initial_bits"] > 0


def test_latents_keep_pictures_of_another_size(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "large.png")
    answer, _ = back(call, runs["latent"], tmp_path / "out", tmp_path / "large.png")
    (reason,) = answer["kept_as_they_are"]
    assert "latents" in reason


def test_recordings_come_back(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    x = integers(2**16, (150,)).astype(np.int32) - 2**15
    x = x.astype(np.int16)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    soundfile.write(tmp_path / "in" / "sub" / "a.flac", x, 16000, subtype="PCM_16")
    soundfile.write(tmp_path / "in" / "stereo.wav", np.stack([x, x], 1), 8000, subtype="PCM_16")
    soundfile.write(tmp_path / "in" / "deep.wav", np.arange(100) / 1000, 8000, subtype="FLOAT")
    answer, out = back(call, runs["linear"], tmp_path / "out", tmp_path / "in")
    samples, rate = soundfile.read(out / "sub" / "a.wav", dtype="int16")
    assert np.array_equal(samples, x)
    assert rate == 16000
    assert (out / "stereo.wav").read_bytes() == (tmp_path / "in" / "stereo.wav").read_bytes()
    assert sum(answer["kept_as_they_are"].values()) == 2


def test_mu_law_takes_only_its_own_samples(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    own = data.Audio(8000, 256, mu_law=True)(torch.arange(256)[None, None])[0, 0]
    soundfile.write(tmp_path / "own.wav", own, 8000, subtype="PCM_16")
    soundfile.write(tmp_path / "other.wav", own[100:] + 1, 8000, subtype="PCM_16")
    answer, out = back(call, runs["mu-law"], tmp_path / "out", tmp_path / "own.wav", tmp_path / "other.wav")
    assert np.array_equal(soundfile.read(out / "own.wav", dtype="int16")[0], own)
    assert answer["entries"] == 1
    assert (out / "other.wav").read_bytes() == (tmp_path / "other.wav").read_bytes()


def test_a_table_comes_back(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    rows = [[-1, 0, 4000000000], [5, 1, 10], [0, 1, 20]]
    source = table(tmp_path / "t.csv", rows, ("a", "b", "c"))
    other = table(tmp_path / "other.csv", [[7, 0, 10]], ("a", "b", "c"))
    call("compress", runs["table"], source, "--out", tmp_path / "t.anc")
    assert call("decompress", runs["table"], tmp_path / "t.anc", "--out", tmp_path / "back.csv").status == 0
    assert (tmp_path / "back.csv").read_bytes() == source.read_bytes()
    answer, out = back(call, runs["table"], tmp_path / "out", source, other)
    assert (out / "other.csv").read_bytes() == other.read_bytes()
    assert (out / "t.csv").read_bytes() == source.read_bytes()
    assert answer["entries"] == 3


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("a,b,c\n-1,0,10\n5,1,20\n", 2),
        ("a;b;c\r\n-1;0;10\r\n5;1;20", 2),
        ("a\tb\tc\n5\t1\t4000000000\n", 1),
        ("a,b,c\n-1,0,010\n", 0),
        ("a,b,c\n-1,0,10.0\n", 0),
        ("a,b,c\n-1, 0,10\n", 0),
        ('a,b,c\n-1,"0",10\n', 0),
        ("a,b,c\n\n-1,0,10\n", 0),
        ("\ufeffa,b,c\n-1,0,10\n", 0),
        ("a,b,c\n-1,0,4000000000.0000001\n", 0),
        (f"a,b,c\n-1,0,{'1' * 200_000}\n", 0),
    ],
)
def test_a_table_is_the_same_text(text: str, entries: int, call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    answer, out = back(call, runs["table"], tmp_path / "out", tmp_path / "t.csv")
    assert (out / "t.csv").read_bytes() == text.encode()
    assert answer["entries"] == entries


def test_a_table_without_names_of_columns_comes_back(call: Call, tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    source.write_text("1;0\n2;5\n7;1\n3;0\n4;5\n5;1\n6;0\n8;5\n9;1\n10;0\n11;5\n12;1\n")
    found = data.load(str(source))
    run = saved(tmp_path / "run", testing.tiny("made", shape=(2,), likelihood=Categorical(found.levels)), found)
    answer, out = back(call, run, tmp_path / "out", source)
    assert (out / "t.csv").read_bytes() == source.read_bytes()
    assert answer["entries"] == 12


def test_arrays_come_back_with_labels_and_what_else_there_is(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    arrays = {"train": integers(256, (5, 8, 8)).astype(np.int64), "train_label": integers(2, (5,)).astype(np.int16)}
    arrays |= {"test": integers(256, (2, 1, 9, 9)).astype(np.uint8), "scale": np.array([0.5, 2.0])}
    source = npz(tmp_path / "d.npz", **arrays)
    answer, out = back(call, runs["grey"], tmp_path / "out", source)
    with np.load(out / "d.npz") as found:
        assert set(found.files) == set(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)
    assert answer["entries"] == 7
    np.save(tmp_path / "x.npy", arrays["train"])
    call("compress", runs["grey"], tmp_path / "x.npy", "--out", tmp_path / "x.anc")
    call("decompress", runs["grey"], tmp_path / "x.anc", "--out", tmp_path / "y.npy")
    assert np.array_equal(np.load(tmp_path / "y.npy"), arrays["train"])


def test_a_source_and_an_estimate(call: Call, tmp_path: Path) -> None:
    digits = data.load("digits")
    model = testing.tiny("gated-pixelcnn", shape=(1, 8, 8), likelihood=Categorical(17), classes=10)
    run = saved(tmp_path / "run", model, digits)
    done = call("compress", run, "digits", "--split", "valid", "--out", tmp_path / "d.anc", "--json").json
    call("decompress", run, tmp_path / "d.anc", "--out", tmp_path / "d.npz")
    with np.load(tmp_path / "d.npz") as found:
        assert np.array_equal(found["valid"], digits.splits["valid"].x.numpy())
        assert np.array_equal(found["valid_label"], digits.splits["valid"].labels.numpy())
    guess = call("compress", run, "digits", "--split", "valid", "--estimate", "--json").json
    part = digits.splits["valid"]
    with torch.no_grad():
        bits = -float(open_run(run).model.log_prob(part.x, part.labels).double().sum()) / np.log(2)
    assert guess["bits"] == pytest.approx(bits, rel=1e-5)
    assert 8 * done["parts"]["streams"] == pytest.approx(bits, rel=5e-3)


def test_an_estimate_takes_the_best_class_and_no_padding(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    x = picture(tmp_path / "p.png", (10, 9))
    guess = call("compress", runs["grey"], tmp_path / "p.png", "--estimate", "--json").json
    made = call("compress", runs["grey"], tmp_path / "p.png", "--out", tmp_path / "p.anc", "--json").json
    assert guess["values"] == x.size
    assert 8 * made["parts"]["streams"] == pytest.approx(guess["bits"], abs=80)


# --- what must not happen ---------------------------------------------------------------------------------------


HOSTILE = ["/etc/x", "../x", "a/../../x", "a//b", "C:/x", "a\\b", ".", "a/./b", "\x1b[2J", "", "a/" * 1500 + "b"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(name: str, call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="could lead out"):
        safe(name)
    with open(tmp_path / "x.anc", "wb") as file, Writer(file, open_run(runs["grey"]).model) as writer:
        writer.add_plain("plain/good.txt", b"x")
        writer.add_plain(f"plain/{name}", b"x")
    done = call("decompress", runs["grey"], tmp_path / "x.anc", "--out", tmp_path / "deep" / "out")
    assert done.status == 1
    assert "could lead out" in done.error
    assert list((tmp_path / "deep").iterdir()) == []


ARRAY = {"n": 1, "file": "x.npz", "key": "x", "levels": 256, "own": 256, "shape": [1, 8, 8], "dtype": "|u1"}
LAYOUT = {"delimiter": ",", "header": True, "end": "\n", "closed": True}


@pytest.mark.parametrize(
    "sets",
    [
        3,
        [{"n": -1, "file": "x"}],
        [{"n": 1, "file": "../x"}],
        [{"n": 1}],
        [{"n": True}],
        [ARRAY | {"dtype": "<b8"}],
        [ARRAY | {"label": "|u2"}],
        [{"n": 1, "file": "x.csv", "layout": LAYOUT | {"delimiter": "ab"}}],
        [{"n": 1, "file": "x.csv", "layout": {}}],
        [{"n": 1, "file": "x.csv", "layout": LAYOUT | {"header": 1}}],
    ],
)
def test_hostile_headers_are_refused(sets: object, call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    with open(tmp_path / "x.anc", "wb") as file, Writer(file, open_run(runs["grey"]).model, info={"sets": sets}):
        pass
    assert call("decompress", runs["grey"], tmp_path / "x.anc", "--out", tmp_path / "out").error
    assert not (tmp_path / "out").exists()


def test_a_foreign_kind_is_refused(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    with open(tmp_path / "x.anc", "wb") as file, Writer(file, open_run(runs["grey"]).model) as writer:
        writer.add(Entry("hz8000/x.wav", 0, (1, 8, 8)), torch.zeros(1, 8, 8))
    assert "kind" in call("decompress", runs["grey"], tmp_path / "x.anc", "--out", tmp_path / "out").error


def test_arrays_of_any_name_come_back(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    arrays = {name: integers(256, (2, 8, 8)) for name in ("file", "allow_pickle", "args")}
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:  # numpy itself cannot write an array that is called "file"
        for name, array in arrays.items():
            file.writestr(f"{name}.npy", npy(array))
    _, out = back(call, runs["grey"], tmp_path / "out", tmp_path / "x.npz")
    with np.load(out / "x.npz") as found:
        assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_a_file_that_cannot_be_stored_is_said_before_anything_is_coded(
    call: Call, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "CHUNK", 10)
    (tmp_path / "notes.txt").write_bytes(b"x" * 11)
    done = call("compress", runs["grey"], tmp_path / "notes.txt", "--out", tmp_path / "x.anc")
    assert "must have at most 10 bytes, it has 11" in done.error
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_array_that_claims_more_than_there_is_is_refused() -> None:
    whole = npy(integers(9, (3, 4)))
    assert array_of(whole).shape == (3, 4)
    for wrong in (whole[:-1], whole.replace(b"(3, 4)", b"(9, 9)"), whole.replace(b"(3, 4)", b"(3, 4*"), b"no"):
        with pytest.raises(ValueError, match=r"as long|header"):
            array_of(wrong)


def test_an_occupied_place_is_left_alone(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    picture(tmp_path / "p.png")
    call("compress", runs["grey"], tmp_path / "p.png", "--out", tmp_path / "p.anc")
    full, link, file = tmp_path / "full", tmp_path / "link", tmp_path / "file"
    full.mkdir()
    file.write_text("mine")
    (full / "p.png").symlink_to(file)
    link.symlink_to(tmp_path / "elsewhere")
    for out in (full, link, file):
        assert "give a new" in call("decompress", runs["grey"], tmp_path / "p.anc", "--out", out).error
    assert file.read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert call("decompress", runs["grey"], tmp_path / "p.anc", "--out", tmp_path / "empty").status == 0


def test_what_is_lost_is_said_and_the_rest_is_written(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "in" / f"{i}.png", (8, 8))
    call("compress", runs["grey"], tmp_path / "in", "--out", tmp_path / "x.anc", "--examples", 2)
    content = bytearray((tmp_path / "x.anc").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.anc").write_bytes(content)
    done = call("decompress", runs["grey"], tmp_path / "x.anc", "--out", tmp_path / "out", "--json")
    assert done.status == 1
    assert "lost: " in done.err
    assert done.json["lost"]
    assert done.json["files"] == len(names(tmp_path / "out")) == 4
    assert all(np.array_equal(pixels(p), pixels(tmp_path / "in" / p.name)) for p in (tmp_path / "out").iterdir())


def test_a_damaged_header_is_said_and_costs_nothing(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    x = picture(tmp_path / "p.png", (8, 8))
    call("compress", runs["grey"], tmp_path / "p.png", "--out", tmp_path / "x.anc")
    content = bytearray((tmp_path / "x.anc").read_bytes())
    content[20] ^= 1
    (tmp_path / "x.anc").write_bytes(content)
    done = call("decompress", runs["grey"], tmp_path / "x.anc", "--out", tmp_path / "out", "--json")
    assert done.status == 0
    assert "header of the file is damaged" in done.err
    assert done.json["repaired"]
    assert np.array_equal(pixels(tmp_path / "out" / "p.png"), x)


def test_chunks_that_the_model_fails_at_are_said(
    call: Call, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {name: picture(tmp_path / "in" / f"{name}.png", (8, 8)) for name in "abc"}
    with monkeypatch.context() as failing:
        failing.setattr(chunks, "unpack", lambda *given: given[3] + 9)
        words = ("compress", runs["grey"], tmp_path / "in", "--out", tmp_path / "x.anc", "--examples", 2)
        done = call(*words)
        answer = call(*words, "--json").json
    assert done.status == 0
    (line,) = [line for line in done.out.splitlines() if "without the model, in" in line]
    assert line.startswith("2 chunks of 2 stored without the model, in ")
    assert line.endswith("bytes: 2 x its values are not those that were written")
    assert answer["parts"]["fallbacks"] == {"its values are not those that were written": 2}
    assert call("decompress", runs["grey"], tmp_path / "x.anc", "--out", tmp_path / "out").status == 0
    assert all(np.array_equal(pixels(tmp_path / "out" / f"{name}.png"), x) for name, x in kept.items())


def test_mistakes_have_one_line(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    grey, out = runs["grey"], tmp_path / "x.anc"
    picture(tmp_path / "p.png")
    (tmp_path / "empty").mkdir()
    wrong = {
        "no such file": ("compress", grey, tmp_path / "none.png", "--out", out),
        "nothing to compress": ("compress", grey, tmp_path / "empty", "--out", out),
        "continuous": ("compress", runs["continuous"], tmp_path / "p.png", "--out", out),
        "written as .anc": ("compress", grey, tmp_path / "p.png", "--out", tmp_path / "p.png"),
        "does not begin like one": ("decompress", grey, tmp_path / "p.png", "--out", tmp_path / "out"),
        "No such file": ("decompress", grey, tmp_path / "none.anc", "--out", tmp_path / "out"),
    }
    for says, words in wrong.items():
        done = call(*words)
        assert done.status == 1
        assert says in done.error
    assert call("compress", grey, tmp_path / "p.png").status == 2
    assert call("compress", grey, "--out", out).status == 2
    call("compress", grey, tmp_path / "p.png", "--out", out)
    assert "another model" in call("decompress", runs["rgb"], out, "--out", tmp_path / "out").error
    assert "--out FOLDER" in call("decompress", grey, out, "--out", tmp_path / "out.npz").error
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".", "out"))]


def test_both_take_a_device(call: Call, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = picture(tmp_path / "p.png")
    words = ("compress", runs["grey"], tmp_path / "p.png", "--out", tmp_path / "x.anc")
    back = ("decompress", runs["grey"], tmp_path / "x.anc", "--out", tmp_path / "out")
    assert call(*words, "--device", "cpu").status == call(*back, "--device", "cpu").status == 0
    assert np.array_equal(pixels(tmp_path / "out" / "p.png"), x)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for each in (words, (*back[:-1], tmp_path / "again"), (*words[:3], "--estimate")):
        assert "no GPU" in call(*each, "--device", "cuda").error
        assert call(*each, "--device", "auto").status == 0


def test_other_formats_are_told_where_they_have_such_pictures(
    call: Call, runs: dict[str, Path], tmp_path: Path
) -> None:
    small = picture(tmp_path / "small.png", (8, 8))
    done = call("compress", runs["grey"], tmp_path / "small.png", "--estimate", "--json").json
    best = io.BytesIO()
    Image.fromarray(small).convert("RGB").save(best, "webp", lossless=True, quality=100, method=6)
    assert done["other_formats"]["webp"] == best.tell()
    Image.fromarray(np.zeros((1, 16384), np.uint8)).save(tmp_path / "long.png")
    done = call("compress", runs["grey"], tmp_path / "long.png", "--estimate")
    assert "PNG" in done.out
    assert "not compared with WebP: it has no pictures" in done.out
    for side, mode in ((16383, "L"), (16384, None), (5, "I;16")):
        image = Image.new(mode or "L", (side, 1))
        assert (webp_size(image) is None) == (mode != "L")


def test_how_long_it_took_is_said(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    picture(tmp_path / "p.png", (30, 30))
    words = ("compress", runs["grey"], tmp_path / "p.png")
    packed = call(*words, "--out", tmp_path / "x.anc")
    unpacked = call("decompress", runs["grey"], tmp_path / "x.anc", "--out", tmp_path / "out")
    for done in (packed, unpacked, call(*words, "--estimate")):
        assert re.search(r"in [\d.e-]+ s \([\d,]+ bytes/s\)", done.out)
    again = call("decompress", runs["grey"], tmp_path / "x.anc", "--out", tmp_path / "again", "--json").json
    assert again["bytes_out"] == (tmp_path / "again" / "p.png").stat().st_size
    assert again["bytes_in"] == (tmp_path / "x.anc").stat().st_size
    assert again["bytes_per_second"] == pytest.approx(again["bytes_out"] / again["seconds"])


def test_what_a_person_reads(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    picture(tmp_path / "p.png")
    (tmp_path / "notes.txt").write_text("x")
    done = call("compress", runs["grey"], tmp_path / "p.png", tmp_path / "notes.txt", "--out", tmp_path / "x.anc")
    for words in ("1 example and 1 file as it is", "larger", "PNG", "bits/dim", "streams", "metadata"):
        assert words in done.out
    assert json.loads(call("compress", runs["grey"], tmp_path / "p.png", "--estimate", "--json").out)["estimate"]
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "p.png", "x.anc"]
