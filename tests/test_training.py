import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ancestral import training
from ancestral.checkpoint import load, read_config, read_tensors
from ancestral.data import BINARIZE, Data
from ancestral.data import load as load_data
from ancestral.data.dataset import Split
from ancestral.data.restore import Arrays, Pictures
from ancestral.evaluation import evaluate
from ancestral.likelihoods import Categorical, GaussianMixture
from ancestral.model import Model
from ancestral.models import MADE, GatedPixelCNN
from ancestral.objectives import nll
from ancestral.pacing import default_batch
from ancestral.resuming import difference
from ancestral.schedule import Batches, Schedule, mixed, weight_decay
from ancestral.training import Summary, train


def some_data(examples: int = 50, valid: int = 12) -> Data:
    """Rows of five bits that mostly repeat each other, and labels."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(2, (examples + valid, 1), generator=generator).expand(-1, 5).clone()
    x ^= (torch.rand(x.shape, generator=generator) < 0.1).long()
    labels = torch.randint(3, (len(x),), generator=generator)
    splits = {"train": Split(x[:examples], labels[:examples]), "valid": Split(x[examples:], labels[examples:])}
    return Data("some", (5,), 2, ("a", "b", "c"), {**splits, "test": splits["valid"]}, (), Arrays(2))


def pictures() -> Data:
    x = torch.randint(4, (40, 1, 4, 3), generator=torch.Generator().manual_seed(1)).byte()
    labels = torch.arange(40) % 3
    splits = {name: Split(x, labels) for name in ("train", "valid", "test")}
    return Data("pictures", (1, 4, 3), 4, ("a", "b", "c"), splits, (), Pictures(4))


def made(**arguments: Any) -> MADE:
    torch.manual_seed(3)
    return MADE(**{"shape": (5,), "hidden": (16,), "classes": 3, **arguments})


def tensors(folder: Path) -> dict[str, Tensor]:
    state = json.loads((folder / "training" / "state.json").read_text())
    return read_tensors(folder / "training" / state["tensors"])


def records(folder: Path, split: str | None = None) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if split in (None, line["split"])]


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def interrupting(step: int, number: int = signal.SIGINT) -> Callable[[dict[str, Any]], None]:
    """What sends a signal to this process after a step."""
    at = (step, "train")
    return lambda record: os.kill(os.getpid(), number) if (record["step"], record["split"]) == at else None


# -- the run ----------------------------------------------------------------------------------------------------------


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
        train(model, some_data(), tmp_path / name, steps=6, seed=seed)
    assert_equal(first.state_dict(), again.state_dict())
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


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
    batch = data.batch

    def watched(split: str, index: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor | None]:
        seen.append((split, epoch))
        return batch(split, index, epoch)

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        assert model.resampled(step) == {"mask": step}
        return nll(model, x, context, step)

    monkeypatch.setattr(data, "batch", watched)
    train(made(masks=4, order_agnostic=True), data, tmp_path, epochs=3, loss=loss)
    assert [epoch for split, epoch in seen if split == "train"] == [0] * 4 + [1] * 4 + [2] * 4
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


# -- resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_resumed_run_is_the_run_that_was_never_stopped(number: int, tmp_path: Path) -> None:
    whole, parts = made(masks=4, order_agnostic=True), made(masks=4, order_agnostic=True)
    train(whole, some_data(), tmp_path / "whole", epochs=5)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stopped = train(parts, some_data(), tmp_path / "parts", epochs=5, on_progress=interrupting(9, number))
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert stopped.interrupted
    assert 9 <= stopped.steps <= 10  # in the third epoch of four steps
    assert read_config(tmp_path / "parts")["result"]["interrupted"]
    fresh = made(masks=4, order_agnostic=True, seed=0)
    torch.nn.init.zeros_(fresh.layers[0].weight)  # what it had does not matter
    resumed = train(fresh, some_data(), tmp_path / "parts", resume=True)
    assert not resumed.interrupted
    assert resumed.steps == 20
    assert_equal(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
    assert_equal(whole.state_dict(), fresh.state_dict())
    numbers = [json.loads((tmp_path / run / "training" / "state.json").read_text()) for run in ("whole", "parts")]
    assert numbers[0] | {"seconds": 0} == numbers[1] | {"seconds": 0}
    assert records(tmp_path / "whole", "valid") == records(tmp_path / "parts", "valid")
    assert read_config(tmp_path / "parts")["result"]["best_step"] == resumed.best_step


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(made(), some_data(), tmp_path / "whole", steps=12)
    monkeypatch.setattr(training, "INTERVAL", 0)  # a checkpoint after every step

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        if step == 7:
            raise MemoryError
        return nll(model, x, context, step)

    loss.__qualname__ = "nll"
    with pytest.raises(MemoryError):
        train(made(), some_data(), tmp_path / "killed", steps=12, loss=loss)
    with open(tmp_path / "killed" / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "epoch": 2, "split": "train", "nats": 1.0}\n{"step": 10, "ep')  # were written later
    train(made(), some_data(), tmp_path / "killed", resume=True)
    assert_equal(tensors(tmp_path / "whole"), tensors(tmp_path / "killed"))
    assert [r["step"] for r in records(tmp_path / "killed", "train")] == list(range(1, 13))
    assert len(list((tmp_path / "killed" / "training").iterdir())) == 2


def test_a_finished_run_is_resumed_without_harm(tmp_path: Path) -> None:
    first = train(made(), some_data(), tmp_path, steps=6)
    before = load(tmp_path).state_dict()
    again = train(model := made(), some_data(), tmp_path, steps=6, resume=True)
    assert (again.steps, again.valid_nats) == (first.steps, first.valid_nats)
    assert_equal(load(tmp_path).state_dict(), before)
    assert_equal(model.state_dict(), before)


def test_early_stopping_survives_resuming(tmp_path: Path) -> None:
    runs: list[Summary] = []
    for name, stop in (("whole", None), ("parts", 5)):
        told = interrupting(stop) if stop else None
        runs.append(train(made(), some_data(), tmp_path / name, epochs=40, loss=worse, on_progress=told))
    runs.append(train(made(), some_data(), tmp_path / "parts", loss=worse, resume=True))
    whole, stopped, resumed = runs
    assert stopped.interrupted
    assert (whole.steps, whole.stopped_early) == (resumed.steps, resumed.stopped_early) == (6 * 8, True)
    assert_equal(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))


def worse(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
    """A loss that makes the likelihood worse at every step."""
    return -nll(model, x, context, step)


def test_a_run_stops_when_validation_gets_worse_unless_steps_are_fixed(tmp_path: Path) -> None:
    early = train(made(), some_data(), tmp_path / "epochs", epochs=40, loss=worse)
    assert early.stopped_early
    assert early.steps == 6 * 8  # the first of 20 validations was the best, five more were worse
    assert early.best_step == 8
    fixed = train(made(), some_data(), tmp_path / "steps", steps=160, loss=worse)
    assert (fixed.steps, fixed.stopped_early, fixed.best_step) == (160, False, 8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"hidden": (17,)}}, r"model\.arguments\.hidden is \[16\] in the run, got \[17\]"),
        ({"data": {"examples": 49}}, r"data\.counts\.train is 50 in the run, got 49"),
        ({"train": {"steps": 7}}, r"training\.steps is 6 in the run, got 7"),
        ({"train": {"minutes": 1}}, r"training\.minutes is None in the run, got 1"),
        ({"train": {"lr": 0.5}}, r"training\.lr is 0\.25 in the run, got 0\.5"),
        ({"train": {"seed": 1}}, r"training\.seed is 0 in the run, got 1"),
        ({"train": {"loss": worse}}, r"training\.loss is nll in the run, got worse"),
    ],
)
def test_another_run_is_not_resumed(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    train(made(), some_data(), tmp_path, steps=6, lr=0.25)
    with pytest.raises(ValueError, match=f"cannot be resumed: {words}"):
        train(
            made(**change.get("model", {})),
            some_data(**change.get("data", {})),
            tmp_path,
            resume=True,
            **change.get("train", {}),
        )


def test_other_examples_of_the_same_shape_are_noticed(tmp_path: Path) -> None:
    train(made(), some_data(), tmp_path, steps=2)
    data = some_data()
    data.splits["train"].x[0, 0] ^= 1
    with pytest.raises(ValueError, match=r"cannot be resumed: data\.fingerprint is"):
        train(made(), data, tmp_path, resume=True)
    renamed = some_data()
    renamed.name = "./some"  # the same examples by another name
    train(made(), renamed, tmp_path, resume=True)


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    train(made(), some_data(), tmp_path, steps=2)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"already holds a run: .*--resume"):
        train(made(), some_data(), tmp_path, steps=2)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_what_cannot_be_resumed_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such run folder"):
        train(made(), some_data(), tmp_path / "nothing", resume=True)
    train(made(), some_data(), tmp_path, steps=2)
    path = tmp_path / "training" / "step-00000002.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged or cut off"):
        train(made(), some_data(), tmp_path, resume=True)
    (tmp_path / "training" / "state.json").unlink()
    with pytest.raises(FileNotFoundError, match="there is nothing to resume"):
        train(made(), some_data(), tmp_path, resume=True)


def test_differences_are_named() -> None:
    assert difference({"a": {"b": [1, 2], "c": 3}}, {"a": {"b": [1, 2]}}) is None
    assert difference({"a": {"b": 1}}, {"a": {"b": 2}}) == "a.b is 1 in the run, got 2"


# -- what goes wrong --------------------------------------------------------------------------------------------------


def failing(at: Callable[[int], bool], how: Callable[[Tensor], Tensor]) -> Any:
    """The loss, spoilt at some steps."""

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        losses = nll(model, x, context, step)
        return how(losses) if at(step) else losses

    return loss


def not_a_number(losses: Tensor) -> Tensor:
    return losses * float("nan")


def wild_gradient(losses: Tensor) -> Tensor:
    return losses + (losses - losses).sqrt()  # the value is right, its gradient is not finite


@pytest.mark.parametrize(("how", "what"), [(not_a_number, "loss"), (wild_gradient, "gradient")])
def test_a_step_that_is_not_finite_is_skipped(
    how: Callable[[Tensor], Tensor], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = train(made(), some_data(), tmp_path, steps=10, loss=failing({3, 4, 8}.__contains__, how))
    assert (summary.steps, summary.skipped) == (10, 3)
    assert [r["step"] for r in records(tmp_path, "train") if "skipped" in r] == [4, 5, 9]
    assert f"step 4 was skipped: the {what} is not finite" in capsys.readouterr().err
    assert all(bool(tensor.isfinite().all()) for tensor in tensors(tmp_path).values())


def watched(seen: list[Tensor], factor: Callable[[int], float]) -> Any:
    """The loss times a factor of the step, which keeps the weights that each step begins with."""

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        seen.append(model.get_parameter("layers.0.weight").detach().clone())
        return nll(model, x, context, step) * factor(step)

    return loss


def test_a_wild_step_is_clipped(tmp_path: Path) -> None:
    tame: list[Tensor] = []
    wild: list[Tensor] = []
    train(made(), some_data(), tmp_path / "tame", steps=12, loss=watched(tame, lambda step: 1))
    train(made(), some_data(), tmp_path / "wild", steps=12, loss=watched(wild, lambda step: 1e6 if step == 5 else 1))
    assert (wild[7] - wild[5]).norm() < 2 * (tame[7] - tame[5]).norm()


def test_a_skipped_step_changes_nothing(tmp_path: Path) -> None:
    seen: list[Tensor] = []
    train(made(), some_data(), tmp_path, steps=5, loss=watched(seen, lambda step: math.nan if step == 2 else 1))
    assert torch.equal(seen[2], seen[3])
    assert not torch.equal(seen[3], seen[4])


def test_the_last_good_state_is_that_of_a_validation(tmp_path: Path) -> None:
    seen: list[Tensor] = []
    spoilt = watched(seen, lambda step: math.nan if 8 <= step < 13 else 1)
    train(made(), some_data(), tmp_path, steps=100, loss=spoilt)  # validated at every fifth step
    assert torch.equal(seen[12], seen[8])
    assert torch.equal(seen[13], seen[5])


def test_several_in_a_row_go_back_with_half_the_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = train(made(), some_data(), tmp_path / "plain", steps=40)
    spoilt = failing(range(20, 25).__contains__, not_a_number)
    summary = train(made(), some_data(), tmp_path / "spoilt", steps=40, loss=spoilt)
    assert (summary.steps, summary.skipped) == (plain.steps, 5)
    assert "back to the last good state, with 0.5 of the rate" in capsys.readouterr().err
    rates = {r["step"]: r["lr"] for r in records(tmp_path / "plain", "train")}
    after = {r["step"]: r["lr"] for r in records(tmp_path / "spoilt", "train") if "lr" in r}
    assert after[20] == rates[20]
    assert after[26] == rates[26] / 2
    assert evaluate(load(tmp_path / "spoilt"), some_data()).nats < evaluate(made(), some_data()).nats


def test_training_that_always_fails_ends_with_one_line(tmp_path: Path) -> None:
    steps: list[int] = []

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        steps.append(step)
        return nll(model, x, context, step) * (float("nan") if step >= 6 else 1)

    with pytest.raises(
        ValueError, match=r"^training diverges: 20 steps were not finite, .* lower lr than 0\.003"
    ) as error:
        train(made(), some_data(), tmp_path, steps=1000, loss=loss)
    assert "\n" not in str(error.value)
    assert len(steps) == 6 + 4 * 5
    assert all(bool(p.isfinite().all()) for p in load(tmp_path).parameters())


def test_every_other_step_may_fail_without_end(tmp_path: Path) -> None:
    summary = train(made(), some_data(), tmp_path, steps=60, loss=failing(lambda step: step % 2 == 1, not_a_number))
    assert (summary.steps, summary.skipped) == (60, 30)


def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return nll(model, x, context, step)

    with pytest.raises(KeyboardInterrupt):
        train(made(), some_data(), tmp_path, steps=5, loss=loss)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "INTERVAL", 0)
    write = Path.write_bytes

    def write_bytes(path: Path, content: bytes) -> int:
        if "step-00000004" in path.name:
            write(path, content[:50])
            raise OSError(28, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(
        OSError, match=r"^cannot write .*step-00000004.safetensors: No space left on device; .* intact$"
    ):
        train(made(), some_data(), tmp_path / "full", steps=8)
    assert sorted(path.name for path in (tmp_path / "full" / "training").iterdir()) == [
        "state.json",
        "step-00000003.safetensors",
    ]
    monkeypatch.undo()
    train(made(), some_data(), tmp_path / "full", resume=True)
    train(made(), some_data(), tmp_path / "whole", steps=8)
    assert_equal(tensors(tmp_path / "full"), tensors(tmp_path / "whole"))


def test_a_folder_that_cannot_be_written_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"^cannot write .*file/run") as error:
        train(made(), some_data(), tmp_path / "file" / "run", steps=2, loss=failing(lambda step: True, lambda x: 1 / 0))
    assert "\n" not in str(error.value)


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


# -- the schedule -----------------------------------------------------------------------------------------------------


def test_minutes_are_kept(tmp_path: Path) -> None:
    begin = time.perf_counter()
    train(made(), some_data(), tmp_path, minutes=0.03)
    assert time.perf_counter() - begin < 60 * 0.03 * 1.1 + 0.5  # what a busy machine may do to the last step


def test_measuring_the_speed_leaves_no_trace(tmp_path: Path) -> None:
    train(made(), some_data(), tmp_path / "minutes", minutes=0.04, on_progress=interrupting(4))
    planned = read_config(tmp_path / "minutes")["training"]["planned_steps"]
    train(made(), some_data(), tmp_path / "steps", steps=planned, on_progress=interrupting(4))
    assert_equal(tensors(tmp_path / "minutes"), tensors(tmp_path / "steps"))


def test_a_run_of_minutes_resumes_with_the_same_schedule(tmp_path: Path) -> None:
    train(made(), some_data(), tmp_path, minutes=0.03, on_progress=interrupting(2))
    config = read_config(tmp_path)
    assert config["training"]["minutes"] == 0.03
    done = train(made(), some_data(), tmp_path, minutes=0.03, resume=True)
    assert read_config(tmp_path)["training"] == config["training"]
    assert not done.interrupted


def test_a_run_of_minutes_ends_on_a_machine_that_became_slower(tmp_path: Path) -> None:
    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        time.sleep(0.1 if step > 60 else 0.001)  # the measured steps are the first ones
        return nll(model, x, context, step)

    summary = train(made(), some_data(), tmp_path, minutes=0.03, loss=loss)
    assert summary.stopped_early
    assert summary.steps < read_config(tmp_path)["training"]["planned_steps"]
    assert summary.seconds < 60 * 0.03 * 1.1 + 0.5
    assert records(tmp_path, "valid")[-1]["step"] == summary.steps


def test_every_example_comes_once_an_epoch() -> None:
    batches = Batches(examples=50, size=16, seed=7)
    assert batches.per_epoch == 4
    epochs = [[batches.at(step) for step in range(4 * e, 4 * e + 4)] for e in range(3)]
    for number, epoch in enumerate(epochs):
        assert {e for e, _ in epoch} == {number}
        assert {len(index) for _, index in epoch} == {12, 13}
        assert torch.cat([index for _, index in epoch]).sort().values.tolist() == list(range(50))
    assert not torch.equal(epochs[0][0][1], epochs[1][0][1])
    assert torch.equal(batches.at(5)[1], Batches(50, 16, 7).at(5)[1])
    assert not torch.equal(batches.at(5)[1], Batches(50, 16, 8).at(5)[1])


def test_the_rate_rises_and_falls() -> None:
    schedule = Schedule(steps=1000, lr=0.1)
    rates = [schedule.rate(step) for step in range(1000)]
    top = rates.index(max(rates))
    assert rates[0] < 0.01
    assert top == 50
    assert rates[top] == pytest.approx(0.1, rel=0.02)
    assert rates[-1] < 1e-6
    assert all(a > b for a, b in zip(rates[top:], rates[top + 1 :], strict=False))
    assert Schedule(1, 0.1).rate(0) == 0.1


def test_a_run_is_validated_twenty_times_and_at_its_end() -> None:
    for steps in (1, 7, 20, 1000, 1010):
        schedule = Schedule(steps, 0.1)
        due = [step for step in range(1, steps + 1) if schedule.validation(step)]
        assert due[-1] == steps
        assert len(due) <= 20
        assert [schedule.validation(step) for step in due] == list(range(1, len(due) + 1))


def test_the_average_reaches_further_as_the_run_goes_on() -> None:
    schedule = Schedule(steps=10_000, lr=0.1)
    assert schedule.decay(0) < 0.2
    assert schedule.decay(9999) == pytest.approx(1 - 1 / 500)
    assert Schedule(10**6, 0.1).decay(10**6) == pytest.approx(0.9995)
    assert 0 <= Schedule(1, 0.1).decay(0) < 0.2


def test_sizes_suit_the_data() -> None:
    assert [default_batch(n) for n in (1, 100, 1258, 5000, 50_000)] == [16, 16, 16, 32, 64]
    assert weight_decay(0.002, 80) == pytest.approx(1 / (0.002 * 800))
    assert weight_decay(0.002, 1) == pytest.approx(1 / (0.002 * 500))


def test_seeds_depend_on_every_number() -> None:
    assert len({mixed(a, b, c) for a in range(3) for b in range(3) for c in range(3)}) == 27


# -- several processes ------------------------------------------------------------------------------------------------

PROCESS = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import made, some_data, pictures
from ancestral.evaluation import evaluate
from ancestral.training import train
from ancestral.likelihoods import Categorical
from ancestral.models import GatedPixelCNN
torch.manual_seed(int(sys.argv[1]))
image = GatedPixelCNN(shape=(1, 4, 3), likelihood=Categorical(4), channels=4, layers=2, classes=3)
if sys.argv[1] == "0":
    torch.save(image.state_dict(), {folder!r} + "/image.pt")
train(image, pictures(), {folder!r} + "/images", steps=4, batch_size=7, device="cpu")
model = made(masks=4, order_agnostic=True)
train(model, some_data(), {folder!r} + "/rows", epochs=2, device="cpu")
found = evaluate(model, some_data(), "train", batch_size=7)
print(found.count, found.nats, found.nats_se, sep=",")
torch.distributed.destroy_process_group()
"""


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
    model = made(masks=4, order_agnostic=True)
    train(image, pictures(), tmp_path / "images alone", steps=4, batch_size=7, device="cpu")
    train(model, some_data(), tmp_path / "rows alone", epochs=2, device="cpu")
    for run in ("images", "rows"):
        alone, shared = tensors(tmp_path / f"{run} alone"), tensors(tmp_path / run)
        assert alone.keys() == shared.keys()
        for name in alone:
            torch.testing.assert_close(
                shared[name], alone[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )
        nats = [[r["nats"] for r in records(tmp_path / folder)] for folder in (run, f"{run} alone")]
        assert nats[0] == pytest.approx(nats[1], rel=1e-5)
    found = evaluate(model, some_data(), "train", batch_size=7)
    for out, _ in said:
        count, mean, error = map(float, out.strip().split(","))
        assert count == found.count == 50
        assert mean == pytest.approx(found.nats, rel=1e-5)
        assert error == pytest.approx(found.nats_se, rel=1e-4)
