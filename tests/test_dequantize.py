"""Levels made continuous by noise: which noise, what of it comes back, and what the figures then mean."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ancestral.data import Data, load
from ancestral.data.dequantize import dequantized, quantized, uniforms
from ancestral.data.restore import Arrays, Pictures
from ancestral.evaluation import check_fit, evaluate
from ancestral.likelihoods import Categorical, DiscretizedLogisticMixture, LogisticMixture
from ancestral.model import Model
from ancestral.models import GatedPixelCNN
from ancestral.training import train
from calls import Call
from datafiles import npz, one_line
from small_runs import interrupting

SMALL = ["--set", "layers=1", "channels=4", "kernel_size=3", "likelihood=LogisticMixture(components=2)"]


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits", dequantize=True, seed=3)


@pytest.mark.parametrize("levels", [2, 3, 17, 256, 1000, 2**16])
@pytest.mark.parametrize("u", [0.0, 0.3, 1 - 2**-24])
def test_the_level_comes_back_from_its_cell(levels: int, u: float) -> None:
    x = torch.arange(levels)
    y = dequantized(x, levels, torch.tensor(u))
    assert y.dtype == torch.float32
    assert -1 <= y.min()
    assert y.max() < 1
    assert torch.equal(quantized(y, levels), x)
    assert (y.double() - (2 * (x + u) / levels - 1)).abs().max() < 2**-23


def test_what_is_outside_goes_to_the_outer_levels() -> None:
    assert quantized(torch.tensor([-3.0, -1.0, 0.999, 1.0, 7.0]), 17).tolist() == [0, 0, 16, 16, 16]


def test_noise_is_uniform_and_of_the_example_alone() -> None:
    index = torch.tensor([5, 0, 700])
    u = uniforms((3, 4, 4), index, 1, 0, 2)
    assert torch.equal(uniforms((3, 4, 4), index[1:], 1, 0, 2), u[1:])
    for numbers in ((0, 0, 2), (1, 1, 2), (1, 0, 3)):
        assert (uniforms((3, 4, 4), index, *numbers) != u).any(1).all()
    many = uniforms((100,), torch.arange(100), 0, 0, 0).flatten().sort().values
    assert 0 <= many[0]
    assert many[-1] < 1
    assert (many - torch.linspace(0, 1, len(many))).abs().max() < 0.02  # Kolmogorov-Smirnov, at far below 1 %


def test_batches_of_a_data_set(digits: Data) -> None:
    index = torch.tensor([3, 1, 4])
    x, labels = digits.batch("train", index)
    levels, same = load("digits", seed=3).batch("train", index)
    assert (digits.levels, digits.dequantized, digits.discrete) == (None, 17, 17)
    assert torch.equal(quantized(x, 17), levels.long())
    assert torch.equal(labels, same)
    assert torch.equal(digits.batch("train", index)[0], x)
    assert torch.equal(digits.batch("train", torch.arange(5))[0][index], x)


def test_noise_is_drawn_anew_for_training_only(digits: Data) -> None:
    index = torch.arange(4)
    for split, anew in (("train", True), ("valid", False), ("test", False)):
        first, second = (digits.batch(split, index, epoch)[0] for epoch in (0, 1))
        assert (first != second).any().item() is anew
        assert torch.equal(quantized(first, 17), quantized(second, 17))
    assert (load("digits", dequantize=True, seed=4).batch("train", index)[0] != digits.batch("train", index)[0]).any()


def test_after_dynamic_binarization() -> None:
    from ancestral.data import BINARIZE

    data = load("digits", binarize=BINARIZE["dynamic"], dequantize=True)
    plain = load("digits", binarize=BINARIZE["dynamic"])
    index = torch.arange(6)
    for epoch in (0, 2):
        x, _ = data.batch("train", index, epoch)
        assert torch.equal(quantized(x, 2), plain.batch("train", index, epoch)[0].long())


def test_what_has_no_levels_is_refused(tmp_path: Path) -> None:
    source = npz(tmp_path / "a.npz", train=np.random.default_rng(0).normal(size=(20, 3)))
    with pytest.raises(ValueError, match="continuous data") as error:
        load(source, dequantize=True)
    one_line(error, "leave it out")
    (tmp_path / "a.csv").write_text("a,b\n0,1\n1,0\n")
    with pytest.raises(ValueError, match="is a table") as error:
        load(tmp_path / "a.csv", dequantize=True)
    one_line(error, "dequantize")


def test_restored(digits: Data, tmp_path: Path) -> None:
    assert digits.restore == Pictures(17, dequantized=True)
    x, _ = digits.batch("test", torch.arange(3))
    levels, _ = load("digits").batch("test", torch.arange(3))
    for picture, same in zip(digits.restore(x), Pictures(17)(levels), strict=True):
        assert np.array_equal(np.asarray(picture), np.asarray(same))
    digits.restore.save(x, tmp_path / "x.npz")
    assert np.array_equal(np.load(tmp_path / "x.npz")["x"], x.numpy())
    rows = npz(tmp_path / "rows.npz", train=np.arange(40).reshape(20, 2))
    assert load(rows, dequantize=True).restore == Arrays(None)


class Flat(Model):
    """The uniform density on [-1, 1)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.likelihood, self.conditioner = shape, LogisticMixture(), None
        self.nothing = torch.nn.Parameter(torch.zeros(()))

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        assert x.is_floating_point()
        inside = (-1 <= x) & (x < 1)
        return torch.where(inside, -math.log(2), -math.inf).flatten(1).sum(1) + 0 * self.nothing

    log_probs = walk = receptive_field = None  # type: ignore[assignment]


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_uniform_density_has_log2_k_bits_per_dim(levels: int, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(levels, size=(40, 1, 3, 5), dtype=np.uint8 if levels == 256 else np.int16)
    x[0, 0, 0, 0] = levels - 1
    data = load(npz(tmp_path / "x.npz", train=x, valid=x[:9], test=x[5:]), dequantize=True)
    found = evaluate(Flat((1, 3, 5)), data)
    assert found.bits_per_dim == pytest.approx(math.log2(levels), abs=1e-6)
    assert found.nats == pytest.approx(15 * math.log(levels), rel=1e-6)
    assert not found.exact
    assert found.baselines["uniform"]["bits_per_dim"] == pytest.approx(math.log2(levels))


def test_the_figure_bounds_that_of_the_cells(digits: Data) -> None:
    """A density that is nearly constant in every cell gives what its integrals over the cells give."""
    narrow = LogisticMixture(components=3)
    params = torch.randn(1, narrow.features(1), 1, 1)
    cells = torch.arange(17)
    p = next(narrow.walk(params.flatten(1), 1))
    mass = p.cdf((2 * (cells + 1) / 17 - 1)[None]) - p.cdf((2 * cells / 17 - 1)[None])
    u = torch.rand(20_000, 17, dtype=torch.float64)
    y = dequantized(cells.expand_as(u), 17, u).reshape(-1, 1, 1, 1)
    log_p = narrow.log_probs(params.expand(len(y), -1, -1, -1), y).view_as(u).mean(0) + math.log(2 / 17)
    assert (log_p.double() <= mass[0].double().log() + 1e-3).all()
    assert (log_p.double() - mass[0].double().log()).abs().max() < 0.5


def test_a_discrete_model_is_told(digits: Data) -> None:
    model = GatedPixelCNN(shape=(1, 8, 8), likelihood=Categorical(17), channels=4, layers=1)
    with pytest.raises(ValueError, match="made continuous") as error:
        check_fit(model, digits, "train")
    one_line(error, "17 levels")


def trained(folder: Path, steps: int, resume: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(0)
    arguments = {"channels": 4, "layers": 1, "kernel_size": 3}
    model = GatedPixelCNN(shape=(1, 8, 8), likelihood=LogisticMixture(components=2), **arguments)
    stop = interrupting(steps) if steps < 60 else None
    length = {} if resume else {"steps": 60, "batch_size": 32}
    train(model, load("digits", dequantize=True), folder, resume=resume, on_progress=stop, **length)
    return model.state_dict()


def test_a_resumed_run_sees_the_same_noise(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 60)
    trained(tmp_path / "parts", 45)  # in the second epoch
    parts = trained(tmp_path / "parts", 60, resume=True)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_from_the_command_line(call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = call("train", "gated-pixelcnn", "--data", "digits", "--dequantize", "--steps", 4, "--out", run, *SMALL)
    assert done.status == 0, done.err
    assert "17 levels made continuous by noise" in done.err
    assert "bits/dim" in done.out
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["options"]["dequantize"] is True
    assert config["data"]["dequantized"] == 17
    assert config["model"]["arguments"]["likelihood"]["class"] == "LogisticMixture"

    found = call("evaluate", run, "--json").json
    assert found["exact"] is False
    assert 0 < found["bits_per_dim"] < 8
    assert found["nats"] == pytest.approx(found["bits_per_dim"] * 64 * math.log(2))
    assert set(found["baselines"]) == {"uniform", "global histogram", "independent histogram"}
    text = call("evaluate", run).out
    assert "at most, gated-pixelcnn, given the label" in text
    assert "an upper bound" in text

    assert call("sample", run, "-n", 20, "--out", tmp_path / "s.npz").status == 0
    assert np.load(tmp_path / "s.npz")["x"].dtype == np.float32
    assert call("sample", run, "-n", 20, "--out", tmp_path / "s.png").status == 0
    assert call("complete", run, "--known", "top", "-n", 1, "--out", tmp_path / "c.png").status == 0
    Image.new("L", (16, 16), 200).save(tmp_path / "grey.png")
    picture = ["--input", tmp_path / "grey.png", "--context", "3"]
    assert call("complete", run, "--known", "top", "-n", 1, "--out", tmp_path / "d.png", *picture).status == 0
    assert "Where the bits are" in (Path(call("report", run, "--json").json["written"])).read_text()

    same = ["train", "gated-pixelcnn", "--data", "digits", "--out", run, "--resume"]
    assert call(*same, "--dequantize").status == 0
    assert call(*same).status == 0


def test_wrong_use_is_one_line(call: Call, tmp_path: Path) -> None:
    words = ["train", "gated-pixelcnn", "--data", "digits", "--steps", 1, "--out", tmp_path / "run"]
    for likelihood in ("Categorical", "DiscretizedLogisticMixture(levels=17)"):
        done = call(*words, "--dequantize", "--set", f"likelihood={likelihood}")
        assert done.status == 1
        assert "--dequantize made continuous: LogisticMixture(components=5) would do" in done.error
    assert call(*words, *SMALL[:3], "channels=4").status == 0
    assert "--dequantize" in call(*words[:4], "--out", tmp_path / "run", "--resume", "--dequantize").error


def test_default_likelihood(digits: Data) -> None:
    from ancestral.cli.settings import build_model

    assert build_model("gated-pixelcnn", digits, []).likelihood == LogisticMixture()
    assert build_model("gated-pixelcnn", load("photos"), []).likelihood == DiscretizedLogisticMixture(256)


def test_samples_of_an_untrained_model_are_finite() -> None:
    """A network that is told a far value may ask for a far wider density: the next value must not run away."""
    torch.manual_seed(0)
    model = GatedPixelCNN(shape=(1, 8, 8), likelihood=LogisticMixture(2), channels=4, layers=1, kernel_size=3)
    assert model.sample(200).isfinite().all()
