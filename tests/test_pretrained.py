"""Models that come with the library: they load, sample and say what their cards say; others are made by `export`."""

import json
import math
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral
from ancestral import checkpoint, data, pretrained, testing
from ancestral.likelihoods import Categorical
from ancestral.models import MADE, GatedPixelCNN
from ancestral.report import export as exporting
from ancestral.report.export import NOTHING, Said, command_of, export
from ancestral.runs import open_run
from ancestral.training import train
from calls import Call
from small_runs import some_data

NAMES = pretrained.names()
LARGEST = 8_000_000  # bytes of all of them
SAID = Said("About it.", "CC0.", "None is known.")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the test, which is empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of a tiny model with random weights, of a file."""
    x = torch.randint(2, (60, 1, 4, 4), generator=torch.Generator().manual_seed(0)).byte().numpy()
    np.savez(tmp_path / "small.npz", train=x[:20], valid=x[20:40], test=x[40:])
    model = testing.tiny("gated-pixelcnn", shape=(1, 4, 4), likelihood=Categorical(2))
    checkpoint.save(model, tmp_path / "run", data=data.load(tmp_path / "small.npz").describe())
    return tmp_path / "run"


def evaluation_of(name: str) -> dict:
    return json.loads((pretrained.folder_of(f"pretrained:{name}") / pretrained.EVALUATION).read_text())


# --- the models -------------------------------------------------------------------------------------------------------


def test_there_are_some_and_they_are_small() -> None:
    assert {"binarized-mnist", "digits", "mushrooms", "photos", "spoken-digits"} <= set(NAMES)
    files = [path for path in pretrained.HOME.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= LARGEST


@pytest.mark.parametrize("name", NAMES)
def test_every_model_loads_and_samples_what_it_finds_likely(name: str) -> None:
    model = ancestral.load(f"pretrained:{name}")
    assert (model.dtype, model.training) == (torch.float32, False)
    context = None if model.conditioner is None else torch.arange(16) % 10
    shape = (1, 512) if len(model.shape) == 2 else None  # of a sound a piece will do
    x = model.sample(16, context, shape=shape, generator=torch.Generator().manual_seed(0))
    found = evaluation_of(name)
    bits = -model.log_prob(x, context).mean().item() / (x[0].numel() * math.log(2))
    assert 0.5 < bits / found["bits_per_dim"] < 1.7  # photos: its test bands are smoother than those of training
    assert found["nats"] < min(baseline["nats"] for baseline in found["baselines"].values())


@pytest.mark.parametrize("name", NAMES)
def test_every_card_says_where_it_comes_from_and_what_came_out(name: str) -> None:
    folder = pretrained.folder_of(f"pretrained:{name}")
    text, found = (folder / pretrained.CARD).read_text("utf-8"), evaluation_of(name)
    for part in (f"pretrained:{name}", "## Data", "Licence of the data: ", "## Recipe", "ancestral train", "## Limits"):
        assert part in text
    assert exporting.result_of(found).partition(" bits")[0].partition(" nats")[0] in text
    config = json.loads((folder / "config.json").read_text())
    assert Path(config["data"]["source"]).name == config["data"]["source"] == config["data"]["name"]
    weights = checkpoint.read_tensors(folder / "model.safetensors")
    stored = {str(t.dtype).removeprefix("torch.") for t in weights.values() if t.is_floating_point()}
    assert stored == {config.get("stored", "float32")}
    assert f"stored in {config.get('stored', 'float32')}" in text


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_says_the_same_result(name: str, root: Path) -> None:
    (line,) = [
        x for x in (root / "README.md").read_text("utf-8").splitlines() if x.startswith(f"| `pretrained:{name}`")
    ]
    assert exporting.result_of(evaluation_of(name)) in line


def test_the_result_of_digits_is_measured_again() -> None:
    run, found = open_run("pretrained:digits"), evaluation_of("digits")
    part = run.data().split("test")
    with torch.no_grad():
        nats = -run.model.log_prob(part.x.long(), part.labels)
    assert (len(nats), "test") == (found["count"], found["split"]) == (360, "test")
    assert nats.mean().item() == pytest.approx(found["nats"], abs=1e-3)
    assert nats.std().item() / 360**0.5 == pytest.approx(found["nats_se"], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "packed", "prefix"),
    [("mushrooms", "uci_binary.npz", "mushrooms_"), ("binarized-mnist", "mnist_static_binarized.npz", "")],
)
def test_results_of_other_data_are_measured_again(name: str, packed: str, prefix: str, shared: Path) -> None:
    model, found = ancestral.load(f"pretrained:{name}"), evaluation_of(name)
    with np.load(shared / "data" / packed) as arrays:
        bits = np.unpackbits(arrays[f"{prefix}test"], axis=1)[:: 1 if prefix else 10, : np.prod(model.shape)]
    nats = -model.log_prob(torch.from_numpy(bits).reshape(-1, *model.shape).long())
    se = nats.std().item() / len(nats) ** 0.5
    assert nats.mean().item() == pytest.approx(found["nats"], abs=1e-3 if prefix else 3 * se)


def test_from_pretrained_takes_the_name() -> None:
    assert isinstance(GatedPixelCNN.from_pretrained("pretrained:digits"), GatedPixelCNN)
    with pytest.raises(ValueError, match="holds a GatedPixelCNN, not a MADE"):
        MADE.from_pretrained("pretrained:digits")


@pytest.mark.parametrize("name", ["digit", "Digits", "", "../models", "digits/", "nothing-like-it"])
def test_an_unknown_name_is_one_line_with_the_nearest(name: str) -> None:
    with pytest.raises(ValueError, match="no such model comes with ancestral") as error:
        ancestral.load(f"pretrained:{name}")
    near = name.lower().startswith("digit")
    assert ("(did you mean pretrained:digits?)" in str(error.value)) == near
    assert str(error.value).endswith(f"there are {', '.join(NAMES)}")


def test_an_installed_model_is_not_trained_over() -> None:
    for resume in (False, True):
        with pytest.raises(ValueError, match="is installed with ancestral"):
            train(testing.tiny("made", shape=(5,)), some_data(), "pretrained:digits", steps=1, resume=resume)


# --- the command line -------------------------------------------------------------------------------------------------


def test_commands_take_the_name_and_write_here(here: Path, call: Call) -> None:
    before = {path: path.stat().st_mtime_ns for path in pretrained.HOME.rglob("*")}
    assert call("sample", "pretrained:digits", "-n", 20, "--out", "grid.png").status == 0
    with Image.open(here / "grid.png") as grid:
        assert min(grid.size) > 16
    assert call("complete", "pretrained:digits", "--known", "top", "-n", 2, "--out", "completed.png").status == 0
    done = call("evaluate", "pretrained:digits", "--limit", 20, "--json")
    assert done.json["written"] == os.path.join("pretrained-digits", "evaluation-test-limit20.json")
    assert call("report", "pretrained:digits").out == f"written: {os.path.join('pretrained-digits', 'report.html')}\n"
    page = (here / "pretrained-digits" / "report.html").read_text("utf-8")
    assert "all 360 examples" in page  # the evaluation that came with it
    assert "20 of 360 examples" in page  # the one that was made here
    assert "ancestral verify pretrained:digits" in page
    assert {path: path.stat().st_mtime_ns for path in pretrained.HOME.rglob("*")} == before


def test_verify_writes_here(here: Path, call: Call) -> None:
    done = call("verify", "pretrained:mushrooms", "--json")
    assert done.json["passed"]
    assert done.json["written"] == os.path.join("pretrained-mushrooms", "verify.json")
    assert json.loads((here / "pretrained-mushrooms" / "verify.json").read_text())["passed"]


def test_compress_and_decompress_take_the_name(here: Path, call: Call) -> None:
    np.savez(here / "x.npz", x=data.load("digits").split("test").x[:8].numpy())
    assert call("compress", "pretrained:digits", "x.npz", "--out", "x.anc").status == 0
    assert call("decompress", "pretrained:digits", "x.anc", "--out", "again.npz").status == 0
    with np.load("x.npz") as one, np.load("again.npz") as other:
        assert np.array_equal(one["x"], other["x"])


def test_score_takes_the_name(call: Call) -> None:
    words = ("--method", "likelihood", "--limit", 4, "--out", "scores.csv")
    assert call("score", "pretrained:digits", "digits", *words).status == 0
    assert len(Path("scores.csv").read_text().splitlines()) == 5


def test_data_that_is_not_installed_is_asked_for(here: Path, call: Call) -> None:
    error = call("evaluate", "pretrained:mushrooms").error
    assert error.startswith("pretrained:mushrooms comes without its data, mushrooms.npz: give a file (--data")
    rows = np.random.default_rng(0).integers(0, 2, (9, 112), dtype=np.uint8)
    np.savez(here / "mine.npz", test=rows)
    done = call("evaluate", "pretrained:mushrooms", "--data", "mine.npz", "--json")
    assert done.json["count"] == 9


def test_models_pretrained_lists_them(call: Call) -> None:
    lines = {line.split()[0]: line for line in call("models", "--pretrained").out.splitlines()[1 : 1 + len(NAMES)]}
    assert lines.keys() == {f"pretrained:{name}" for name in NAMES}
    for part in ("GatedPixelCNN", "digits", exporting.result_of(evaluation_of("digits")), "1.2 MB"):
        assert part in lines["pretrained:digits"]
    assert call("models", "--pretrained", "--json").json.keys() == set(NAMES)


def test_models_pretrained_says_a_card(call: Call) -> None:
    card = (pretrained.folder_of("pretrained:mushrooms") / pretrained.CARD).read_text("utf-8")
    for name in ("mushrooms", "pretrained:mushrooms"):
        assert call("models", "--pretrained", name, "--json").json["card"] == card
    assert call("models", "--pretrained", "mushrooms").out.startswith("# mushrooms\n")


@pytest.mark.parametrize("command", [("sample", "--out", "x.png"), ("models", "--pretrained"), ("evaluate",)])
def test_a_bad_name_is_one_line(command: tuple[str, ...], call: Call) -> None:
    name = "diggits" if command[0] == "models" else "pretrained:diggits"
    assert "did you mean pretrained:digits?" in call(*command, name).error
    assert not any(Path().iterdir())


# --- export -----------------------------------------------------------------------------------------------------------


def test_export_writes_a_small_run_without_paths(run: Path, tmp_path: Path, call: Call) -> None:
    texts = ("--about", "Noise.", "--licence", "CC0.", "--limits", "All.")
    done = call("export", run, "--out", tmp_path / "noise", *texts, "--json")
    assert sorted(path.name for path in (tmp_path / "noise").iterdir()) == [
        "CARD.md",
        "config.json",
        "evaluation-test.json",
        "model.safetensors",
    ]
    assert done.json["bytes"] == sum(path.stat().st_size for path in (tmp_path / "noise").iterdir())
    for path in (tmp_path / "noise").glob("*.*s*n"):
        assert str(tmp_path) not in path.read_text("utf-8", errors="replace")
    card = (tmp_path / "noise" / "CARD.md").read_text("utf-8")
    for part in (
        "# noise",
        "ancestral sample noise --out samples.png",
        "Noise.",
        "CC0.",
        "All.",
        "--data small.npz",
        str(tmp_path),
    ):
        assert (part in card) == (part != str(tmp_path))
    shutil.copy(tmp_path / "small.npz", "small.npz")
    again = call("evaluate", tmp_path / "noise", "--data", "small.npz", "--json").json
    assert again["nats"] == pytest.approx(done.json["evaluation"]["nats"], abs=1e-4)
    assert call("export", run, "--out", tmp_path / "noise", *texts).error.endswith("give another folder")


def test_weights_stay_where_rounding_costs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_run(run)
    assert export(opened, tmp_path / "small", SAID).rounded
    assert checkpoint.load(tmp_path / "small").dtype == torch.float32

    def spoilt(model: GatedPixelCNN) -> GatedPixelCNN:
        model = rounded(model)
        for p in model.parameters():
            p.data += torch.randn_like(p)
        return model

    rounded = exporting.rounded
    monkeypatch.setattr(exporting, "rounded", spoilt)
    found = export(opened, tmp_path / "large", SAID)
    assert found.cost > NOTHING * found.before["nats_se"]
    assert not found.rounded
    assert "would cost" in (tmp_path / "large" / "CARD.md").read_text()
    weights = checkpoint.read_tensors(tmp_path / "large" / "model.safetensors")
    assert {t.dtype for t in weights.values() if t.is_floating_point()} == {torch.float32}


def test_the_command_of_a_card_is_that_of_the_run() -> None:
    line = command_of(open_run("pretrained:binarized-mnist"))
    start = "ancestral train made --data mnist_static_binarized.npz --out RUN --minutes 5 --batch-size 64 --lr 0.003"
    assert line == f"{start} --seed 0 --set hidden=1000 direct=true"
    recipe = "ancestral train --recipe mushrooms-made --data mushrooms.npz --out RUN --seed 0"
    assert command_of(open_run("pretrained:mushrooms")) == recipe


# --- the wheel --------------------------------------------------------------------------------------------------------


def test_the_wheel_brings_them(root: Path, here: Path, tmp_path: Path) -> None:
    project, wheels, installed = tmp_path / "project", tmp_path / "wheels", tmp_path / "installed"
    shutil.copytree(root / "src", project / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, project)
    wheels.mkdir()
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(wheels)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=project, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    files = ("CARD.md", "config.json", "evaluation-test.json", "model.safetensors")
    assert all((installed / "ancestral" / "pretrained" / name / file).is_file() for name in NAMES for file in files)
    command = [sys.executable, "-m", "ancestral", "sample", "pretrained:digits", "-n", "10", "--out", "grid.png"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(installed)}, check=True, capture_output=True)
    assert (here / "grid.png").is_file()
