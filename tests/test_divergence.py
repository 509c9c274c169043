import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ancestral import training
from ancestral.checkpoint import load
from ancestral.evaluation import evaluate
from ancestral.model import Model
from ancestral.objectives import nll
from ancestral.training import train
from small_runs import assert_equal, failing, made, not_a_number, records, some_data, tensors, watched, wild_gradient


@pytest.mark.parametrize(("how", "what"), [(not_a_number, "loss"), (wild_gradient, "gradient")])
def test_a_step_that_is_not_finite_is_skipped(
    how: Callable[[Tensor], Tensor], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = train(made(), some_data(), tmp_path, steps=10, loss=failing({3, 4, 8}.__contains__, how))
    assert (summary.steps, summary.skipped) == (10, 3)
    assert [r["step"] for r in records(tmp_path, "train") if "skipped" in r] == [4, 5, 9]
    assert f"step 4 was skipped: the {what} is not finite" in capsys.readouterr().err
    assert all(bool(tensor.isfinite().all()) for tensor in tensors(tmp_path).values())


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

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(made(), some_data(), tmp_path, steps=5, loss=loss)
    assert signal.getsignal(signal.SIGINT) is before


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
