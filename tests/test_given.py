"""Models that are given a picture: what it is made of, that it counts, and the commands over such a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ancestral import checkpoint, data, testing
from ancestral.checkpoint import read_tensors
from ancestral.cli import main
from ancestral.cli.settings import build_model
from ancestral.conditioning import Map
from ancestral.data import GIVEN, as_context
from ancestral.evaluation import evaluate
from ancestral.likelihoods import Categorical
from ancestral.models import GatedPixelCNN
from ancestral.report import write_report
from ancestral.report.draws import at_once
from ancestral.report.giving import from_files, given_samples
from ancestral.runs import open_run
from ancestral.training import train
from small_runs import assert_equal, interrupting

PICTURES = ("grey", "small")
SIZE = 10  # 4 does not divide it


class Caller:
    """The command line in this process: its status, its JSON, and its last line on stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: object) -> dict:
        status, out, err = self.run(*words, "--json")
        assert status == 0, err
        return json.loads(out)

    def error(self, *words: object) -> str:
        status, out, err = self.run(*words)
        assert status == 1, err
        assert out == ""
        assert "Traceback" not in err
        return err.splitlines()[-1].removeprefix("error: ")

    def run(self, *words: object) -> tuple[int, str, str]:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        return (int(stop.value.code or 0), *self.capsys.readouterr())


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(capsys)


def pictures_of(colours: int, count: int, size: int = SIZE) -> np.ndarray:
    """Noise over areas of one colour."""
    draws = np.random.default_rng(0)
    areas = draws.integers(30, 220, (count, colours, 3, 3)).repeat(4, 2).repeat(4, 3)[..., :size, :size]
    return (areas + draws.integers(-20, 20, areas.shape)).astype(np.uint8)


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture
def no_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out of `verify` what tests/test_contract.py checks of every model with maps."""
    monkeypatch.setattr("ancestral.testing.outcomes", lambda model: [])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RGB pictures in three splits, with labels."""
    path, x = tmp_path_factory.mktemp("data") / "colour.npz", pictures_of(3, 60)
    labels = {f"{split}_label": np.arange(20) % 3 for split in ("train", "valid", "test")}
    np.savez(path, train=x[:20], valid=x[20:40], test=x[40:], **labels)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, source: Path) -> dict[str, Path]:
    """A trained run that is given grey pictures, and one that is given small ones."""
    folder = tmp_path_factory.mktemp("runs")
    small = ["--set", "layers=1", "channels=6", "--set", "kernel_size=3", "--steps", 80, "--lr", 0.02]
    for name in PICTURES:
        words = ["train", "gated-pixelcnn", "--data", source, "--given", name, "--out", folder / name]
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in [*words, *small]])
        assert not stop.value.code
    return {name: folder / name for name in PICTURES}


# --- what is made of a picture ------------------------------------------------------------------------------------


def test_grey_is_that_of_pillow() -> None:
    x = torch.randint(256, (2, 3, 7, 5), dtype=torch.uint8)
    for example, grey in zip(x, GIVEN["grey"](x), strict=True):
        picture = Image.fromarray(example.permute(1, 2, 0).numpy()).convert("L")
        assert grey[0].tolist() == np.asarray(picture).tolist()
    white = torch.full((1, 3, 1, 1), 65535, dtype=torch.int32)
    assert GIVEN["grey"](white).tolist() == [[[[65535]]]]


@pytest.mark.parametrize(("h", "w"), [(8, 4), (5, 7), (1, 1), (4, 9)])
def test_small_is_the_mean_of_what_is_there(h: int, w: int) -> None:
    x = torch.randint(256, (2, 3, h, w), dtype=torch.uint8)
    small = GIVEN["small"](x)
    assert small.shape == (2, 3, -(-h // 4), -(-w // 4))
    for row in range(small.shape[2]):
        for col in range(small.shape[3]):
            block = x[:, :, 4 * row : 4 * row + 4, 4 * col : 4 * col + 4].double()
            assert torch.equal(small[:, :, row, col], block.mean((2, 3)).round().long())


def test_a_context_is_from_minus_one_to_one() -> None:
    found = as_context(torch.tensor([0, 127, 255], dtype=torch.uint8), 256)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([-1, -1 / 255, 1])


@pytest.mark.parametrize("name", PICTURES)
def test_batches_hold_maps_in_place_of_labels(source: Path, name: str) -> None:
    found, index = data.load(source, given=GIVEN[name]), torch.tensor([3, 1])
    x, context = found.batch("test", index)
    assert torch.equal(x, found.split("test").x[index])
    assert context is not None
    assert torch.equal(context, as_context(GIVEN[name](x), 256))
    assert found.classes == ("0", "1", "2")
    assert found.describe()["options"]["given"] == name
    anew = data.load(source, given=type(GIVEN[name])())
    assert anew.describe()["options"]["given"] == name
    labels = data.load(source).batch("test", index)[1]
    assert labels is not None
    assert labels.tolist() == [0, 1]


def test_maps_follow_what_each_epoch_draws() -> None:
    found = data.load("digits", binarize=data.BINARIZE["dynamic"], given=GIVEN["small"])
    first, again = (found.batch("train", torch.arange(50), epoch) for epoch in (1, 2))
    for x, context in (first, again):
        assert context is not None
        assert torch.equal(context, as_context(GIVEN["small"](x), 2))
    assert not torch.equal(first[0], again[0])


# --- runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PICTURES)
def test_the_map_counts(runs: dict[str, Path], name: str) -> None:
    run = open_run(runs[name])
    assert isinstance(run.model.conditioner, Map)
    x, context = run.data().batch("test", torch.arange(20))
    assert context is not None
    own, other = run.model.log_prob(x, context), run.model.log_prob(x, context.roll(1, 0))
    assert own.mean() > other.mean() + 10  # nats: it was learnt, and it reaches the likelihood
    found = evaluate(run.model, run.data())
    assert found.nats == pytest.approx(-own.mean().item(), rel=1e-5)
    assert found.given == GIVEN[name].words
    assert found.label_averaged is None


@pytest.mark.usefixtures("no_contract")
@pytest.mark.parametrize("name", PICTURES)
def test_every_command(call: Caller, runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    run = runs[name]
    assert call("evaluate", run, "--limit", 5)["given"] == GIVEN[name].words
    assert call("complete", run, "--known", "top", "-n", 2, "--out", tmp_path / "c.png")["pictures"] == 8
    assert call("verify", run)["passed"] is True
    page = Path(call("report", run)["written"]).read_text()
    for words in (GIVEN[name].words, "samples, and the picture", "<h2>Completions</h2>", "<h2>Timings</h2>"):
        assert words in page
    assert f"Map(channels={GIVEN[name].channels(3)}, features=32, upsample={GIVEN[name].factor})" in page


@pytest.mark.parametrize("name", PICTURES)
def test_samples_of_test_pictures(call: Caller, runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    found = call("sample", runs[name], "-n", 20, "--seed", 5, "--out", tmp_path / "s.npz")
    assert (found["given"], found["pictures"], found["n"]) == (name, 8, 20)
    arrays, run = np.load(tmp_path / "s.npz"), open_run(runs[name])
    assert arrays["x"].shape == (20, 3, SIZE, SIZE)
    shown = run.data().limited("test", 8, 5)
    x, context = run.data().batch("test", shown)
    assert context is not None
    rows = [0, 3, 6, 9, 12, 14, 16, 18]  # 20 samples of 8 pictures
    assert np.array_equal(arrays["context"][rows], context.numpy())
    call("sample", runs[name], "-n", 20, "--seed", 5, "--out", tmp_path / "s.png")
    picture = opened(tmp_path / "s.png")
    scale, line, gap = 6, 2, 12  # 10 pixels become 60
    side = SIZE * scale
    assert picture.shape == (8 * (side + line) - line, 5 * side + 2 * line + 2 * gap, 3)
    columns = [0, side + gap, side + gap + 2 * (side + line), picture.shape[1] - side]
    given, sample, last, original = (picture[:side:scale, left : left + side : scale] for left in columns)
    assert np.array_equal(sample, arrays["x"][0].transpose(1, 2, 0))
    assert np.array_equal(last, arrays["x"][2].transpose(1, 2, 0))
    assert np.array_equal(original, x[0].permute(1, 2, 0).numpy())
    block = 1 if name == "grey" else 4
    assert (given[::block, ::block] == GIVEN[name](x[:1])[0].permute(1, 2, 0).numpy()).all()


def test_resuming_is_exact(call: Caller, source: Path, tmp_path: Path) -> None:
    found = data.load(source, given=GIVEN["small"])
    for out, stop in ((tmp_path / "whole", None), (tmp_path / "parts", interrupting(2))):
        torch.manual_seed(0)
        model = build_model("gated-pixelcnn", found, ["layers=1", "channels=6"])
        train(model, found, out, steps=4, on_progress=stop)
    assert "--given grey: the run in" in call.error("train", "--out", out, "--resume", "--given", "grey")
    assert call("train", "--out", out, "--resume", "--given", "small", "--data", source)["steps"] == 4
    weights = [read_tensors(tmp_path / run / "model.safetensors") for run in ("whole", "parts")]
    assert_equal(*weights)


def test_other_data_gives_its_own_maps(call: Caller, runs: dict[str, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", test=pictures_of(3, 70)[60:])
    assert call("evaluate", runs["small"], "--data", tmp_path / "other.npz")["count"] == 10
    np.savez(tmp_path / "one.npz", test=pictures_of(1, 10))
    assert "given grey" in call.error("evaluate", runs["grey"], "--data", tmp_path / "one.npz")


@pytest.mark.usefixtures("no_contract")
def test_without_its_data(runs: dict[str, Path], call: Caller, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(runs["grey"], moved)
    config = json.loads((moved / "config.json").read_text())
    config["data"]["source"] = "gone.npz"
    (moved / "config.json").write_text(json.dumps(config))
    assert "gone.npz" in call.error("sample", moved, "--out", tmp_path / "s.png")
    assert "samples of the model" in call("verify", moved)["examples"]
    page = write_report(open_run(moved)).read_text()
    assert "<h2>Timings</h2>" in page
    assert "<h2>Samples</h2>" not in page
    save(tmp_path / "grey.png", pictures_of(1, 1)[0])
    words = ["sample", moved, "-n", 1, "--input", tmp_path / "grey.png", "--out", tmp_path / "s.png"]
    assert call(*words)["pictures"] == 1


# --- own pictures -------------------------------------------------------------------------------------------------


def save(path: Path, x: np.ndarray) -> Path:
    """Write a picture (C, H, W)."""
    Image.fromarray(x[0] if len(x) == 1 else x.transpose(1, 2, 0)).save(path)
    return path


def levels(x: np.ndarray) -> Tensor:
    return torch.from_numpy(x).long()


def test_own_pictures_are_turned_grey_or_are(runs: dict[str, Path], tmp_path: Path) -> None:
    run, x = open_run(runs["grey"]), pictures_of(3, 2)[:, :, :7, :9]
    colour, grey = save(tmp_path / "colour.png", x[0]), save(tmp_path / "grey.png", x[1, :1])
    same = save(tmp_path / "same.png", x[1, :1].repeat(3, 0))
    giving = from_files(run, [colour, grey, same], 7)
    expected = torch.stack([GIVEN["grey"](levels(x[:1]))[0], levels(x[1, :1]), levels(x[1, :1])])
    assert torch.equal(giving.pictures, expected)
    assert [original is None for original in giving.originals] == [False, True, True]
    assert torch.equal(giving.originals[0], levels(x[0]))
    assert giving.of.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert given_samples(run, giving).shape == (7, 3, 7, 9)
    modes = given_samples(run, giving, temperature=0)  # nothing but what was given makes them differ
    alike = torch.stack([(modes == mode).flatten(1).double().mean(1) for mode in modes])  # rounding may break a tie
    assert ((alike > 0.9).sum(1) == torch.tensor([3, 3, 3, 4, 4, 4, 4])).all()


def test_fewer_are_drawn_together_where_layers_add_maps() -> None:
    assert at_once(torch.zeros(1, 1, 8, 8), (3, 32, 32)) == 64
    assert at_once(torch.zeros(1, 1, 8, 8), (3, 512, 512)) == 1
    assert at_once(torch.zeros(1), (3, 32, 32)) == at_once(None, (3, 32, 32)) == 512


def test_own_pictures_are_made_small_or_are(runs: dict[str, Path], tmp_path: Path) -> None:
    run, x = open_run(runs["small"]), pictures_of(3, 2)
    whole, small = save(tmp_path / "whole.png", x[0]), save(tmp_path / "small.png", x[1, :, :2, :5])
    giving = from_files(run, [whole], 1)
    assert torch.equal(giving.pictures, GIVEN["small"](levels(x[:1])))
    assert torch.equal(giving.originals[0], levels(x[0]))
    assert giving.shape == (3, SIZE, SIZE)
    giving = from_files(run, [small], 2)
    assert torch.equal(giving.pictures, levels(x[1:, :, :2, :5]))
    assert giving.originals == [None]
    assert given_samples(run, giving).shape == (2, 3, 8, 20)
    grey = from_files(run, [save(tmp_path / "grey.png", x[0, :1])], 1)
    assert torch.equal(grey.originals[0], levels(x[0, :1]).expand(3, -1, -1))


def test_own_pictures_on_the_command_line(call: Caller, runs: dict[str, Path], tmp_path: Path) -> None:
    x = pictures_of(3, 2)
    files = [save(tmp_path / f"{i}.png", x[i]) for i in range(2)]
    words = ["sample", runs["grey"], "-n", 4, "--input", *files]
    assert call(*words, "--out", tmp_path / "s.png")["pictures"] == 2
    call(*words, "--out", tmp_path / "s.npz")
    arrays = np.load(tmp_path / "s.npz")
    assert np.array_equal(arrays["context"][2], as_context(GIVEN["grey"](levels(x[1:])), 256)[0].numpy())
    wide = opened(tmp_path / "s.png").shape[1]
    grey = save(tmp_path / "grey.png", x[0, :1])
    call("sample", runs["grey"], "-n", 2, "--input", grey, "--out", tmp_path / "s.png")
    assert opened(tmp_path / "s.png").shape[1] == wide - 60 - 12  # no original
    call("complete", runs["small"], "--known", "left", "-n", 1, "--input", files[0], "--out", tmp_path / "c.png")


# --- mistakes -----------------------------------------------------------------------------------------------------


def test_mistakes_of_sample(call: Caller, runs: dict[str, Path], tmp_path: Path) -> None:
    grey, small, out = runs["grey"], runs["small"], ["--out", tmp_path / "x.png"]
    x = pictures_of(3, 1)[0]
    colour, wide = save(tmp_path / "colour.png", x), save(tmp_path / "wide.png", x[:, :5])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    model = testing.tiny("gated-pixelcnn", shape=(1, 8, 8), likelihood=Categorical(17), classes=10)
    checkpoint.save(model, tmp_path / "digits", data=data.load("digits").describe())
    for words, says in (
        ([grey, "--context", "1"], "is given its grey picture; leave it out"),
        ([grey, "--input", tmp_path / "no.png"], "no such picture"),
        ([grey, "--input", tmp_path / "broken.png"], "cannot be read"),
        ([grey, "--input", colour, "--input", wide], "it is 10x5 pixels"),
        ([grey, "-n", 1, "--input", colour, colour], "-n 1: there are 2 pictures"),
        ([small, "--context", "cat"], "its small picture"),
        ([tmp_path / "digits", "--input", colour], "is given no picture; leave it out"),
        ([tmp_path / "digits", colour], "is given no picture; leave it out"),
    ):
        assert says in call.error("sample", *words, *out)
    assert "its grey picture" in call.error("complete", grey, "--known", "top", "--context", 1, *out)
    assert not (tmp_path / "x.png").exists()


def test_colour_for_a_run_of_grey_pictures(call: Caller, tmp_path: Path) -> None:
    words = ["train", "pixelcnn", "--data", "digits", "--given", "small", "--steps", 1, "--out", tmp_path / "run"]
    call(*words, "--set", "layers=1", "--set", "channels=4")
    red = save(tmp_path / "red.png", pictures_of(3, 1)[0])
    words = ["sample", tmp_path / "run", "--input", red, "--out", tmp_path / "x.png"]
    assert "in colour" in call.error(*words)
    assert call("evaluate", tmp_path / "run", "--limit", 2)["label_averaged"] is None  # the digits' labels are not used


def test_mistakes_of_train(call: Caller, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "t.csv", np.random.default_rng(0).normal(size=(40, 3)), delimiter=",")
    for words, says in (
        (
            ["gated-pixelcnn", "--data", "digits", "--given", "grey"],
            "given grey is for RGB pictures, got 1 channel: leave",
        ),
        (["made", "--data", "digits", "--given", "small"], "made takes no maps"),
        (["made", "--data", tmp_path / "t.csv", "--given", "small"], "is for grey or RGB pictures, got continuous"),
        (["gated-pixelcnn", "--data", "digits", "--given", "small", "--set", "classes=10"], "leave one of them out"),
    ):
        assert says in call.error("train", *words, "--steps", 1, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_labels_do_not_pass_for_maps(source: Path) -> None:
    model = GatedPixelCNN(
        shape=(3, SIZE, SIZE), likelihood=Categorical(256), channels=3, layers=1, conditioner=Map(channels=1)
    )
    with pytest.raises(ValueError, match="does not fit the model: context must have shape"):
        evaluate(model, data.load(source))
    classes = testing.tiny("gated-pixelcnn", shape=(3, SIZE, SIZE), likelihood=Categorical(256), classes=3)
    with pytest.raises(ValueError, match="does not fit the model: context must be class indices"):
        evaluate(classes, data.load(source, given=GIVEN["grey"]))
