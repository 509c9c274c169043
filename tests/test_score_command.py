"""`score`: a line for each example by its file, areas beside other data, maps; mistakes get one line."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from ancestral import anomaly, checkpoint, data, testing
from ancestral.data import Audio
from ancestral.data.restore import Pictures
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture, GaussianMixture
from ancestral.model import Model
from ancestral.runs import open_run
from calls import Call
from datafiles import integers, npz, picture
from datafiles import table as table_of


def saved(folder: Path, model: Model, restore: data.Restore, options: dict, levels: int | None) -> Path:
    source = data.Data("some", model.shape, levels, None, {}, (), restore, options)
    checkpoint.save(model, folder, data=source.describe())
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of tiny models with random weights."""
    root = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    shape, grey = (1, 8, 8), Pictures(256)
    models = {
        "grey": testing.tiny("gated-pixelcnn", shape=shape, likelihood=Categorical(256), classes=2),
        "other": testing.tiny("gated-pixelcnn", shape=shape, likelihood=Categorical(256)),
        "latent": testing.tiny("hierarchical-vae", shape=shape, likelihood=DiscretizedLogisticMixture(256)),
    }
    made = {name: saved(root / name, model, grey, {}, 256) for name, model in models.items()}
    binary = testing.tiny("gated-pixelcnn", shape=shape, likelihood=Bernoulli())
    sound = testing.tiny("wavenet", shape=(1, 64), likelihood=Categorical(256))
    cells = testing.tiny("made", shape=(3,), likelihood=GaussianMixture(components=2))
    audio = {"rate": 8000, "linear": False, "window": 64}
    return made | {
        "binary": saved(root / "binary", binary, Pictures(2), {"binarize": "threshold"}, 2),
        "sound": saved(root / "sound", sound, Audio(8000, 256, mu_law=True), audio, 256),
        "table": saved(root / "table", cells, data.restore.Arrays(None), {}, None),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of noise, and beside it one of flat pictures."""
    for i in range(6):
        picture(tmp_path / "noise" / f"{i}.png", (8, 8))
        flat = tmp_path / "flat" / f"{i}.png"
        flat.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(flat)
    return tmp_path / "noise"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_scored_by_its_files(call: Call, runs: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "scores.csv"
    done = call("score", runs["grey"], folder, "--background", runs["other"], "--out", out, "--json")
    assert done.status == 0, done.err
    table = rows(out)
    assert [row["example"] for row in table] == [str(folder / f"{i}.png") for i in range(6)]
    assert list(table[0]) == ["source", "set", "example", "bits", "likelihood", "ratio", "complexity"]
    x = torch.stack([torch.from_numpy(np.array(Image.open(row["example"])))[None] for row in table])
    model, other = (open_run(runs[name], "cpu").model for name in ("grey", "other"))
    with torch.no_grad():
        bits, background = anomaly.bits(model, x), anomaly.bits(other, x)
    columns = {name: torch.tensor([float(row[name]) for row in table]) for name in table[0] if name not in TEXT}
    expected = {"bits": bits, "likelihood": bits / 64, "ratio": (bits - background) / 64}
    expected |= {"complexity": (bits - anomaly.coded_bits(x, 256)) / 64}
    for name, values in expected.items():
        assert torch.allclose(columns[name].double(), values, rtol=1e-4, atol=1e-5), name
    assert done.json["scores"][0]["examples"] == 6
    assert "auroc" not in done.json
    best = max(table, key=lambda row: float(row["ratio"]))
    assert done.json["strangest"][0]["example"] == best["example"]


TEXT = ("source", "set", "example")


def test_against_gives_areas_with_anomalies_positive(
    call: Call, runs: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    flat, out = folder.parent / "flat", tmp_path / "s.csv"
    done = call("score", runs["grey"], folder, "--against", flat, "--out", out, "--json").json
    table = rows(out)
    assert [row["set"] for row in table] == ["input"] * 6 + ["anomaly"] * 6
    for name, area in done["auroc"].items():
        normal, strange = ([float(row[name]) for row in table if row["set"] == of] for of in ("input", "anomaly"))
        pairs = [(a > n) + (a == n) / 2 for a in strange for n in normal]
        assert area["value"] == pytest.approx(np.mean(pairs))
    assert done["auroc"]["complexity"]["value"] == 1  # codecs make little of what is flat
    text = call("score", runs["grey"], folder, "--against", flat, "--out", out).out
    assert "anomalies (--against) are the positive class" in text


def test_files_are_scored_together_and_typicality_reads_the_runs_own_data(
    call: Call, runs: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    files, out = sorted(folder.glob("*.png")), tmp_path / "s.csv"
    done = call("score", runs["binary"], *files, "--method", "likelihood", "--out", out, "--json").json
    assert [row["example"] for row in rows(out)] == list(map(str, files))
    assert [each["source"] for each in done["scores"]] == ["6 files"]
    source = npz(tmp_path / "x.npz", train=integers(2, (40, 8, 8)).astype(np.uint8))
    loaded = data.load(source, mutate=0.5)
    checkpoint.save(open_run(runs["binary"], "cpu").model, tmp_path / "run", data=loaded.describe())
    how = ("--method", "typicality", "--method", "likelihood", "--out", out)
    assert call("score", tmp_path / "run", source, *how).status == 0
    with torch.no_grad():
        model = open_run(tmp_path / "run", "cpu").model
        typical = anomaly.bits(model, loaded.split("valid").x).mean() / 64  # the levels themselves, not mutated ones
        own = anomaly.bits(model, data.load(source, whole=True).split("test").x) / 64
    assert [float(row["typicality"]) for row in rows(out)] == pytest.approx((own - typical).abs().tolist(), abs=1e-5)


def test_unknown_labels_do_not_matter(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    arrays = {"test": integers(256, (4, 8, 8)).astype(np.uint8), "test_label": np.array([7, 8, 9, 9])}
    done = call("score", runs["grey"], npz(tmp_path / "x.npz", **arrays), "--out", tmp_path / "s.csv")
    assert done.status == 0, done.err
    assert [row["example"] for row in rows(tmp_path / "s.csv")] == ["0", "1", "2", "3"]


def test_bounds_of_dequantized_levels_and_what_a_model_is_given(call: Call, tmp_path: Path) -> None:
    for option, source in ((("--dequantize",), "digits"), (("--given", "grey", "--size", "8"), "photos")):
        run = tmp_path / source
        how = ("--data", source, "--out", run, "--steps", 1, "--set", "layers=1", "channels=4", "classes=null")
        assert call("train", "gated-pixelcnn", *how, *option).status == 0
        maps = ("--maps", tmp_path / "maps.png") if source == "photos" else ()
        done = call("score", run, source, "--limit", 9, "--out", tmp_path / "s.csv", *maps, "--json")
        assert done.status == 0, done.err
        assert done.json["exact"] is (source == "photos")
        assert done.json["scores"][0]["examples"] == 9
        assert done.json["scores"][0]["means"]["likelihood"] > 0  # of levels, not of a density
    assert (tmp_path / "maps.png").exists()


def test_latents_give_bounds_and_say_so(call: Call, runs: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    done = call("score", runs["latent"], folder, "--out", out, "--samples", 3, "--json")
    assert not done.json["exact"]
    assert "bound" in done.err
    assert "bits_at_most" in rows(out)[0]


def test_recordings_are_scored_by_their_files(call: Call, runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, length in (("a", 100), ("b", 30)):
        soundfile.write(tmp_path / "in" / f"{name}.wav", integers(999, (length,)).astype(np.int16), 8000)
    out = tmp_path / "s.csv"
    done = call("score", runs["sound"], tmp_path / "in", tmp_path / "in" / "b.wav", "--out", out)
    assert done.status == 0, done.err
    a, b, again = rows(out)
    assert [Path(row["example"]).name for row in (a, b, again)] == ["a.wav", "b.wav", "b.wav"]
    assert float(b["bits"]) == pytest.approx(30 * float(b["likelihood"]), rel=1e-4)
    assert b["bits"] == again["bits"]


def test_maps_show_the_strangest(call: Call, runs: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps.png"
    how = ("--background", runs["other"], "--maps", out, "--out", tmp_path / "s.csv")
    assert call("score", runs["grey"], folder, *how).status == 0
    with Image.open(out) as image:
        shown = np.asarray(image)
    assert shown.shape[2] == 3
    scale = (shown.shape[0] - 2 * 2) // 3 // 8
    assert shown.shape[:2] == (3 * 8 * scale + 2 * 2, 6 * 8 * scale + 5 * 2)
    best = max(rows(tmp_path / "s.csv"), key=lambda row: float(row["ratio"]))
    with Image.open(best["example"]) as first:
        assert np.array_equal(shown[: 8 * scale : scale, : 8 * scale : scale, 0], np.asarray(first))


def test_a_background_is_trained_on_mutated_data(call: Call, tmp_path: Path) -> None:
    x = npz(tmp_path / "x.npz", train=integers(2, (60, 1, 4, 4)).astype(np.uint8))
    for name, mutate in (("run", ()), ("background", ("--mutate", "0.2"))):
        how = ("--data", x, "--out", tmp_path / name, "--steps", 2, "--set", "layers=1", "channels=4")
        assert call("train", "gated-pixelcnn", *how, *mutate).status == 0
    assert open_run(tmp_path / "background", "cpu").config["data"]["options"]["mutate"] == 0.2
    how = ("--background", tmp_path / "background", "--out", tmp_path / "s.csv", "--json")
    assert "ratio" in call("score", tmp_path / "run", x, *how).json["scores"][0]["means"]
    again = ("--out", tmp_path / "background", "--resume", "--mutate", "0.3")
    assert "--mutate 0.3" in call("train", *again).error


@pytest.mark.parametrize(
    ("run", "words", "parts"),
    [
        ("grey", ("nowhere.png",), ("no such file or folder", "nowhere.png")),
        ("grey", ("NOISE", "--method", "luck"), ("--method luck", "likelihood, ratio, complexity, typicality")),
        ("grey", ("NOISE", "--method", "ratio"), ("--background RUN", "--mutate")),
        ("grey", ("NOISE", "--background", "BINARY"), ("--background", "levels 2", "256")),
        ("grey", ("NOISE", "--out", "scores.txt"), ("scores.txt", ".csv")),
        ("grey", ("NOISE", "--maps", "maps.jpg"), ("maps.jpg", ".png")),
        ("grey", ("NOISE", "--samples", "5"), ("--samples 5", "exact")),
        ("grey", ("NOISE", "--split", "train"), ("no train examples",)),
        ("grey", ("digits",), ("digits has levels 17", "256")),
        ("grey", ("LARGE",), ("examples of shape [1, 9, 9]", "[1, 8, 8]")),
        ("grey", ("BROKEN",), ("cannot be read as a picture",)),
        ("grey", ("NOISE", "--method", "typicality"), ("some",)),
        ("latent", ("NOISE", "--maps", "maps.png"), ("latents",)),
        ("table", ("TABLE", "--method", "complexity"), ("codecs take levels",)),
        ("table", ("TABLE", "--maps", "maps.png"), ("not of levels of pictures",)),
    ],
)
def test_mistakes_get_one_line(
    call: Call, runs: dict[str, Path], folder: Path, run: str, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    root = folder.parent
    picture(root / "large.png", (9, 9))
    (root / "broken.png").write_bytes(b"\x89PNG no")
    table_of(root / "t.csv", [[0.5, 1.5, 2.5]] * 12)
    named = {"NOISE": folder, "BINARY": runs["binary"], "LARGE": root / "large.png", "BROKEN": root / "broken.png"}
    named |= {"TABLE": root / "t.csv", "nowhere.png": root / "nowhere.png"}
    out = () if "--out" in words else ("--out", root / "s.csv")
    done = call("score", runs[run], *(named.get(word, word) for word in words), *out)
    assert done.status == 1
    for part in parts:
        assert part in done.error
    assert not (root / "s.csv").exists()
