import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ancestral.checkpoint import read_config
from ancestral.model import Model
from ancestral.objectives import nll
from ancestral.training import train
from ancestral.training.pacing import default_batch
from ancestral.training.schedule import Batches, Schedule, mixed, usual_decay
from small_runs import assert_equal, interrupting_early, made, records, some_data, tensors


def test_minutes_are_kept(tmp_path: Path) -> None:
    begin = time.perf_counter()
    train(made(), some_data(), tmp_path, minutes=0.03)
    assert time.perf_counter() - begin < 60 * 0.03 * 1.1 + 0.5  # what a busy machine may do to the last step


def test_measuring_the_speed_leaves_no_trace(tmp_path: Path) -> None:
    train(made(), some_data(), tmp_path / "minutes", minutes=0.1, on_progress=interrupting_early())
    planned = read_config(tmp_path / "minutes")["training"]["planned_steps"]
    train(made(), some_data(), tmp_path / "steps", steps=planned, on_progress=interrupting_early())
    assert_equal(tensors(tmp_path / "minutes"), tensors(tmp_path / "steps"))


def test_a_run_of_minutes_resumes_with_the_same_schedule(tmp_path: Path) -> None:
    assert train(made(), some_data(), tmp_path, minutes=0.03, on_progress=interrupting_early()).interrupted
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


def test_examples_of_like_widths_come_together() -> None:
    widths = torch.randint(100, 1000, (500,), generator=torch.Generator().manual_seed(1))
    batches, plain = Batches(500, 16, 7, widths), Batches(500, 16, 7)
    for steps in (range(32), range(32, 64)):
        epoch = [batches.at(step) for step in steps]
        assert {number for number, _ in epoch} == {steps[0] // 32}
        assert {len(index) for _, index in epoch} == {15, 16}
        assert torch.cat([index for _, index in epoch]).sort().values.tolist() == list(range(500))
        means = [widths[index].float().mean().item() for _, index in epoch]
        assert not any(means[i] < means[i + 1] < means[i + 2] < means[i + 3] for i in (0, 8, 16))  # in any order
    filled = [sum(len(i) * int(widths[i].max()) for i in (b.at(s)[1] for s in range(32))) for b in (batches, plain)]
    assert filled[0] < 1.15 * int(widths.sum()) < 1.5 * int(widths.sum()) < filled[1]
    assert batches.work(range(32)) == pytest.approx(filled[0] / 32)
    assert torch.equal(batches.at(37)[1], Batches(500, 16, 7, widths).at(37)[1])
    assert plain.work(range(3)) == 500 / 32


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
    assert [default_batch(5000, window) for window in (100, 2048, 4096, 100_000)] == [32, 4, 2, 2]
    assert usual_decay(0.002, 80) == pytest.approx(1 / (0.002 * 800))
    assert usual_decay(0.002, 1) == pytest.approx(1 / (0.002 * 500))


def test_seeds_depend_on_every_number() -> None:
    assert len({mixed(a, b, c) for a in range(3) for b in range(3) for c in range(3)}) == 27
