import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ancestral import training
from ancestral.checkpoint import load, read_config
from ancestral.model import Model
from ancestral.objectives import nll
from ancestral.training import Summary, train
from ancestral.training.resuming import difference
from small_runs import (
    assert_equal,
    failing,
    interrupting,
    made,
    noisy,
    not_a_number,
    records,
    some_data,
    tensors,
    worse,
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_resumed_run_is_the_run_that_was_never_stopped(number: int, tmp_path: Path) -> None:
    whole, parts = made(masks=4, order_agnostic=True), made(masks=4, order_agnostic=True)
    train(whole, some_data(), tmp_path / "whole", epochs=5, loss=noisy)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stopped = train(parts, some_data(), tmp_path / "parts", epochs=5, loss=noisy, on_progress=interrupting(9, number))
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert stopped.interrupted
    assert 9 <= stopped.steps <= 10  # in the third epoch of four steps
    assert read_config(tmp_path / "parts")["result"]["interrupted"]
    fresh = made(masks=4, order_agnostic=True, seed=0)
    torch.nn.init.zeros_(fresh.layers[0].weight)  # what it had does not matter
    resumed = train(fresh, some_data(), tmp_path / "parts", loss=noisy, resume=True)
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


def test_a_resumed_run_returns_to_the_same_state(tmp_path: Path) -> None:
    spoilt = failing(range(12, 17).__contains__, not_a_number)  # validated after step 10, interrupted after 11
    train(made(), some_data(), tmp_path / "whole", steps=100, loss=spoilt)
    train(made(), some_data(), tmp_path / "parts", steps=100, loss=spoilt, on_progress=interrupting(11))
    resumed = train(made(), some_data(), tmp_path / "parts", loss=spoilt, resume=True)
    assert resumed.skipped == 5
    assert_equal(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))


def test_what_is_not_given_is_as_it_was(tmp_path: Path) -> None:
    whole, parts = made(), made()
    train(whole, some_data(), tmp_path / "whole", steps=12, seed=5, precision="bf16", loss=noisy)
    stopping = interrupting(5)
    train(parts, some_data(), tmp_path / "parts", steps=12, seed=5, precision="bf16", loss=noisy, on_progress=stopping)
    train(parts, some_data(), tmp_path / "parts", loss=noisy, resume=True)
    assert_equal(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
    with pytest.raises(ValueError, match=r"training\.precision is bf16 in the run, got 32"):
        train(parts, some_data(), tmp_path / "parts", precision=32, loss=noisy, resume=True)
