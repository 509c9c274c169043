import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ancestral.checkpoint import load, read_config
from ancestral.data import BINARIZE, Data
from ancestral.data import load as load_data
from ancestral.data.dataset import Examples, Split
from ancestral.data.restore import Arrays
from ancestral.evaluation import evaluate
from ancestral.likelihoods import Categorical, GaussianMixture
from ancestral.model import Model
from ancestral.models import MADE, GatedPixelCNN, PixelCNNpp
from ancestral.objectives import nll
from ancestral.training import train
from ancestral.training.launching import accelerator_for
from small_runs import assert_equal, causal, made, noisy, pictures, recordings, records, some_data, tensors, worse


def test_training_learns_and_leaves_a_whole_run_folder(tmp_path: Path) -> None:
    model, data = made(), some_data()
    before = evaluate(model, data).nats
    summary = train(model, data, tmp_path / "run", steps=150, lr=0.02, config={"note": "mine"})
    assert evaluate(model, data).nats < before - 0.5
    assert summary.steps == 150
    assert summary.epochs == pytest.approx(150 / 4)
    assert summary.parameters == sum(p.numel() for p in model.parameters())
    assert not summary.interrupted
    assert not summary.stopped_early
    config = read_config(tmp_path / "run")
    assert config["note"] == "mine"
    assert config["data"]["source"] == "some"
    assert config["training"]["planned_steps"] == 150
    assert config["result"]["best_step"] == summary.best_step
    files = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("tensorboard/events.out.tfevents.")}
    kept = {"training/state.json", "training/step-00000150.safetensors"}
    assert files - events == {"config.json", "metrics.jsonl", "model.safetensors"} | kept
    assert len(events) == 1


def test_the_result_is_the_best_average_and_is_in_the_folder_and_in_the_model(tmp_path: Path) -> None:
    model, data = made(hidden=(200,)), some_data(examples=16)
    summary = train(model, data, tmp_path, steps=400, lr=0.02)
    valid = records(tmp_path, "valid")
    best = min(valid, key=lambda record: record["nats"])
    assert summary.best_step == best["step"] < 400  # it overfits
    assert summary.valid_nats == best["nats"]
    assert summary.valid_bits_per_dim == pytest.approx(best["nats"] / (5 * math.log(2)))
    assert [r["step"] for r in valid if r["best"]][-1] == best["step"]
    assert evaluate(load(tmp_path), data, "valid").nats == pytest.approx(best["nats"])
    assert_equal(load(tmp_path).state_dict(), model.state_dict())
    assert_equal(load(tmp_path).state_dict(), {n[5:]: t for n, t in tensors(tmp_path).items() if n.startswith("best.")})


def test_training_is_a_function_of_the_seed(tmp_path: Path) -> None:
    first, again, other = made(), made(), made()
    for name, model, seed in (("first", first, 1), ("again", again, 1), ("other", other, 2)):
        torch.rand(len(name))  # what was drawn before does not matter
        train(model, some_data(), tmp_path / name, steps=6, seed=seed, loss=noisy)
    assert_equal(first.state_dict(), again.state_dict())
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


def test_every_step_has_noise_of_its_own(tmp_path: Path) -> None:
    noise: list[float] = []

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        noise.append(torch.rand(()).item())
        return nll(model, x, context, step)

    train(made(), some_data(), tmp_path, steps=5, loss=loss)
    assert len(set(noise)) == 5


def test_training_draws_samples_of_pictures(tmp_path: Path) -> None:
    from PIL import Image

    model = GatedPixelCNN(shape=(1, 4, 3), likelihood=Categorical(4), channels=4, layers=1, classes=3)
    train(model, pictures(), tmp_path, steps=20)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == [f"step-{step:06d}.png" for step in (1, 2, 5, 10, 20)]
    with Image.open(tmp_path / "samples" / names[0]) as picture:
        assert picture.size[0] >= 4 * 3


def test_training_without_validation_examples_keeps_the_last_average(tmp_path: Path) -> None:
    summary = train(made(), some_data(valid=0), tmp_path, steps=10)
    assert (summary.best_step, summary.valid_nats) == (10, None)
    average = {n.removeprefix("average."): t for n, t in tensors(tmp_path).items() if n.startswith("average.")}
    assert_equal(load(tmp_path).state_dict(), average)


def test_continuous_data_is_told_in_nats(tmp_path: Path) -> None:
    x = torch.randn(30, 2)
    splits = {name: Split(x) for name in ("train", "valid", "test")}
    data = Data("table", (2,), None, None, splits, (), Arrays(None))
    model = MADE(shape=(2,), likelihood=GaussianMixture(2), hidden=(8,))
    summary = train(model, data, tmp_path, steps=5)
    assert summary.valid_bits_per_dim is None
    assert summary.valid_nats is not None
    assert all("bits_per_dim" not in record for record in records(tmp_path))


def test_metrics_say_what_they_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[dict[str, Any]] = []
    train(made(), some_data(), tmp_path, steps=8, on_progress=told.append)
    assert told == records(tmp_path)
    first = records(tmp_path, "train")[0]
    assert first.keys() >= {"step", "epoch", "split", "nats", "bits_per_dim", "lr", "examples_per_second"}
    assert first["bits_per_dim"] == pytest.approx(first["nats"] / (5 * math.log(2)))
    assert [(r["step"], r["epoch"]) for r in records(tmp_path, "train")] == [(s, (s - 1) // 4) for s in range(1, 9)]
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"^step 8/8: [\d.]+ bits/dim \(valid [\d.]+\), [\d,]+ examples/s", err, re.M)


def test_each_step_sees_the_epoch_and_the_masks_of_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, data = [], some_data()
    examples = data.examples

    def watched(split: str, index: Tensor, epoch: int = 0) -> Examples:
        seen.append((split, epoch))
        return examples(split, index, epoch)

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        assert model.resampled(step) == {"mask": step}
        return nll(model, x, context, step)

    monkeypatch.setattr(data, "examples", watched)
    train(made(masks=4, order_agnostic=True), data, tmp_path, epochs=3, loss=loss)
    fitting, initializing = [0], [0]  # by the first example, and by the batch of the first step
    assert [epoch for split, epoch in seen if split == "train"] == fitting + initializing + [0] * 4 + [1] * 4 + [2] * 4
    assert {epoch for split, epoch in seen if split == "valid"} == {0}


def test_dynamic_binarization_reaches_training(tmp_path: Path) -> None:
    data = load_data("digits", binarize=BINARIZE["dynamic"])
    seen: list[Tensor] = []

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        seen.append(x)
        return nll(model, x, context, step)

    train(MADE(shape=(1, 8, 8), hidden=(4,)), data, tmp_path, epochs=2, batch_size=629, loss=loss)
    totals = [sum(int(x.sum()) for x in seen[:2]), sum(int(x.sum()) for x in seen[2:])]
    assert totals[0] != totals[1]


def test_averages_forget_the_random_weights_of_the_beginning(tmp_path: Path) -> None:
    model = made()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, some_data(), tmp_path, steps=40)
    held = tensors(tmp_path)
    moved = sum((held[f"model.{name}"] - start[name]).norm() for name in start)
    lag = sum((held[f"model.{name}"] - held[f"average.{name}"]).norm() for name in start)
    assert 0 < lag < 0.1 * moved


def test_bf16_and_back(tmp_path: Path) -> None:
    train(model := made(), some_data(), tmp_path / "a", steps=2, precision="bf16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    plain = made()
    train(plain, some_data(), tmp_path / "b", steps=2)
    assert not torch.equal(model.layers[0].weight, plain.layers[0].weight)


def test_a_run_stops_when_validation_gets_worse_unless_steps_are_fixed(tmp_path: Path) -> None:
    early = train(made(), some_data(), tmp_path / "epochs", epochs=40, loss=worse)
    assert early.stopped_early
    assert early.steps == 6 * 8  # the first of 20 validations was the best, five more were worse
    assert early.best_step == 8
    fixed = train(made(), some_data(), tmp_path / "steps", steps=160, loss=worse)
    assert (fixed.steps, fixed.stopped_early, fixed.best_step) == (160, False, 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"steps": 2, "epochs": 1}, "epochs and steps both limit the run: give one"),
        ({"minutes": 0}, "minutes must be positive, got 0"),
        ({"steps": -1}, "steps must be positive, got -1"),
        ({"batch_size": 0}, "batch_size must be positive"),
        ({"lr": math.nan}, "lr must be positive, got nan"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"precision": 16}, "precision must be 32 or 'bf16', got '16'"),
        ({"device": "gpu"}, "device must be auto, cpu or cuda, got 'gpu'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        train(made(), some_data(), tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="device='cuda': there is no GPU here"):
        train(made(), some_data(), tmp_path / "run", device="cuda", steps=1)


def test_data_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels from 0 to 2, the model knows classes from 0 to 1"):
        train(made(classes=2), some_data(), tmp_path / "run", steps=1)
    assert not (tmp_path / "run").exists()


PROCESS = """
import os, sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from small_runs import causal, made, recordings, some_data, pictures
from ancestral.evaluation import evaluate
from ancestral.training import train
from ancestral.likelihoods import Categorical
from ancestral.models import GatedPixelCNN, PixelCNNpp
torch.manual_seed(int(sys.argv[1]))
image = GatedPixelCNN(shape=(1, 4, 3), likelihood=Categorical(4), channels=4, layers=2, classes=3)
if sys.argv[1] == "0":
    torch.save(image.state_dict(), {folder!r} + "/image.pt")
train(image, pictures(), {folder!r} + "/images", steps=4, batch_size=7, device="cpu")
scaled = PixelCNNpp(shape=(1, 4, 3), likelihood=Categorical(4), channels=4, layers=1, dropout=0.0, classes=3)
if sys.argv[1] == "0":
    torch.save(scaled.state_dict(), {folder!r} + "/scaled.pt")
train(scaled, pictures(), {folder!r} + "/initialized", steps=3, batch_size=7, device="cpu")
model = made(masks=4, order_agnostic=True)
train(model, some_data(), {folder!r} + "/rows", epochs=2, device="cpu")
found = evaluate(model, some_data(), "train", batch_size=7)
print(found.count, found.nats, found.nats_se, sep=",", flush=True)
train(sound := causal(classes=3), recordings(), {folder!r} + "/sounds", steps=6, batch_size=5, device="cpu")
found = evaluate(sound, recordings())
print(found.count, found.nats, found.bits_per_dim_se, sep=",", flush=True)
torch.distributed.barrier()
os._exit(0)  # threads of gloo now and then abort an interpreter that ends
"""


def test_the_data_initialise_a_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step, by a training batch and its labels as in training; not when the run is resumed."""
    given: list[Any] = []
    monkeypatch.setattr(GatedPixelCNN, "initialize", lambda model, *batch: given.append((model.training, *batch)))
    for steps, resume in ((2, False), (2, True)):
        image = GatedPixelCNN(shape=(1, 4, 3), likelihood=Categorical(4), channels=4, layers=2, classes=3)
        train(image, pictures(), tmp_path / "run", steps=steps, batch_size=7, device="cpu", resume=resume)
    ((training, x, labels),) = given
    assert training
    assert len(x) == len(labels) == 7
    split = pictures().split("train")
    for example, label in zip(x, labels, strict=True):
        assert (split.labels[(split.x == example).flatten(1).all(1)] == label).any()


def test_a_trained_model_goes_on_with_its_weights(tmp_path: Path) -> None:
    """Where a model is initialised by data, too: a second run begins with what the first one has learnt."""
    model = PixelCNNpp(shape=(1, 4, 3), likelihood=Categorical(4), channels=4, layers=1)
    train(model, pictures(), tmp_path / "first", steps=20, batch_size=16)
    learnt = evaluate(load(tmp_path / "first"), pictures()).nats
    train(load(tmp_path / "first"), pictures(), tmp_path / "second", steps=1, lr=1e-9, batch_size=16)
    assert evaluate(load(tmp_path / "second"), pictures()).nats == pytest.approx(learnt, abs=0.02)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_two_processes_equal_one(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    code = PROCESS.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], said[0][1] + said[1][1]

    image = GatedPixelCNN(shape=(1, 4, 3), likelihood=Categorical(4), channels=4, layers=2, classes=3)
    image.load_state_dict(torch.load(tmp_path / "image.pt"))
    scaled = PixelCNNpp(shape=(1, 4, 3), likelihood=Categorical(4), channels=4, layers=1, dropout=0.0, classes=3)
    scaled.load_state_dict(torch.load(tmp_path / "scaled.pt"))
    model = made(masks=4, order_agnostic=True)
    train(image, pictures(), tmp_path / "images alone", steps=4, batch_size=7, device="cpu")
    train(scaled, pictures(), tmp_path / "initialized alone", steps=3, batch_size=7, device="cpu")
    train(model, some_data(), tmp_path / "rows alone", epochs=2, device="cpu")
    sound = causal(classes=3)
    train(sound, recordings(), tmp_path / "sounds alone", steps=6, batch_size=5, device="cpu")
    for run in ("images", "initialized", "rows", "sounds"):
        alone, shared = tensors(tmp_path / f"{run} alone"), tensors(tmp_path / run)
        assert alone.keys() == shared.keys()
        for name in alone:
            torch.testing.assert_close(
                shared[name], alone[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )
        nats = [[r["nats"] for r in records(tmp_path / folder)] for folder in (run, f"{run} alone")]
        assert nats[0] == pytest.approx(nats[1], rel=1e-5)
    found, heard = evaluate(model, some_data(), "train", batch_size=7), evaluate(sound, recordings())
    for out, _ in said:
        rows, sounds = ([float(number) for number in line.split(",")] for line in out.strip().splitlines())
        assert rows == [50, pytest.approx(found.nats, rel=1e-5), pytest.approx(found.nats_se, rel=1e-4)]
        assert sounds == [6, pytest.approx(heard.nats, rel=1e-5), pytest.approx(heard.bits_per_dim_se, rel=1e-4)]


def test_auto_is_cuda_or_cpu_and_no_other_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("ancestral.training.launching.Accelerator", lambda **arguments: asked.update(arguments))
    accelerator_for("auto", "32")
    assert asked["cpu"] is True
