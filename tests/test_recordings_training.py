"""Training and evaluation over windows of recordings: every sample once, with its real past, and all alike."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ancestral import evaluation
from ancestral.data import Data
from ancestral.evaluation import baselines, check_fit, evaluate
from ancestral.model import Model
from ancestral.models import WaveNet
from ancestral.objectives import Objective, nll
from ancestral.recorded import Recorded
from ancestral.report.words import evaluation_rows, summary_line
from ancestral.training import train, validating
from ancestral.training.schedule import Batches
from ancestral.training.validating import validated
from small_runs import (
    LENGTHS,
    assert_equal,
    causal,
    interrupting,
    part,
    recordings,
    records,
    tensors,
)


def whole(model: Model, data: Data, split: str = "test", labels: bool = False) -> Tensor:
    """-log p of each recording, scored in one piece, in nats."""
    recorded = data.split(split)
    pieces = recorded.x.split(recorded.lengths.tolist(), 1)
    with torch.no_grad():
        return torch.stack(
            [-model.log_prob(x[None], recorded.of[i : i + 1] if labels else None)[0] for i, x in enumerate(pieces)]
        ).double()


@pytest.mark.parametrize("window", [1, 3, 8, 50])
def test_windows_score_what_the_whole_recordings_score(window: int) -> None:
    model, data = causal(), recordings(window)
    nats, samples = whole(model, data), sum(LENGTHS)
    for size in (1, 4, 100):
        found = evaluate(model, data, batch_size=size)
        assert (found.noun, found.count, found.examples, found.values) == ("recordings", 6, 6, samples)
        assert found.nats == pytest.approx(nats.mean().item(), rel=1e-6)
        assert found.bits_per_dim == pytest.approx(nats.sum().item() / samples / math.log(2), rel=1e-6)


def test_the_past_has_to_be_as_long_as_the_model_sees() -> None:
    model, data = causal(), recordings()
    found = evaluate(model, data).nats
    model.reach -= 1
    assert abs(evaluate(model, data).nats - found) > 1e-5
    model.reach += 2
    assert evaluate(model, data).nats == pytest.approx(found, rel=1e-6)


def test_each_recording_keeps_its_place_whatever_the_order_of_the_windows() -> None:
    model, data = causal(classes=3), recordings()
    index = torch.arange(len(data.split("test")))
    log_p = evaluation.per_example(model.log_prob, model, data, "test", index, 2)
    by_recording, values = evaluation.by_recording(data, "test", index, log_p)
    torch.testing.assert_close(-by_recording, whole(model, data, labels=True), rtol=1e-5, atol=1e-5)
    assert values.tolist() == list(LENGTHS)


def test_a_mean_of_windows_is_another_figure() -> None:
    model, data = causal(), recordings()
    index = torch.arange(len(data.split("test")))
    log_p = evaluation.per_example(model.log_prob, model, data, "test", index)
    of_windows = (-log_p / data.counts("test", index)).mean().item() / math.log(2)
    assert abs(evaluate(model, data).bits_per_dim - of_windows) > 0.005


def test_standard_errors_are_over_recordings() -> None:
    model, data = causal(), recordings()
    nats, lengths = whole(model, data), torch.tensor(LENGTHS).double()
    found = evaluate(model, data)
    ratio = nats.sum() / lengths.sum()
    spread = ((nats / lengths - ratio) * lengths).square().sum() * 6 / 5
    assert found.nats_se == pytest.approx(nats.std().item() / math.sqrt(6), rel=1e-5)
    assert found.bits_per_dim_se == pytest.approx((spread.sqrt() / lengths.sum()).item() / math.log(2), rel=1e-5)
    alone = evaluate(model, recordings(test=part((20,))))
    assert alone.nats_se is alone.bits_per_dim_se is None


def test_a_limit_is_of_whole_recordings() -> None:
    model, data = causal(), recordings()
    found = evaluate(model, data, limit=4)
    chosen = data.split("test").recording[data.limited("test", 4)].unique()
    lengths = torch.tensor(LENGTHS)[chosen]
    assert (found.count, found.examples, found.values) == (4, 6, int(lengths.sum()))
    assert found.nats == pytest.approx(whole(model, data)[chosen].mean().item(), rel=1e-6)
    assert found.baselines["uniform"]["nats"] == pytest.approx(lengths.double().mean().item() * math.log(4))


def test_many_samples_are_scored_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, seen = causal(), recordings(test=part(LENGTHS * 4)), []
    expected = evaluate(model, data).nats
    monkeypatch.setattr(evaluation, "POSITIONS", 60)
    log_probs = model.log_probs
    monkeypatch.setattr(model, "log_probs", lambda x, context=None: seen.append(x.numel()) or log_probs(x, context))
    assert evaluate(model, data).nats == pytest.approx(expected)
    assert max(seen) <= 60
    needed = int(data.split("test").widths(torch.arange(len(data.split("test"))), model.reach).sum())
    assert sum(seen[1:]) < 1.1 * needed  # after the example that is looked at: windows of like widths go together


def test_what_recordings_are_given() -> None:
    data = recordings()
    model = causal(classes=3)
    found = evaluate(model, data)
    assert (found.given, found.label_averaged) == ("the label", None)
    assert found.nats == pytest.approx(whole(model, data, labels=True).mean().item(), rel=1e-6)
    with pytest.raises(ValueError, match="labels from 0 to 2, the model knows classes from 0 to 1"):
        check_fit(causal(classes=2), data, "train")
    with pytest.raises(ValueError, match="has no labels, and the model is conditional"):
        evaluate(model, recordings(test=part()))
    with pytest.raises(ValueError, match="has no test examples"):
        evaluate(causal(), recordings(test=part(())))


class Sequence(Recorded, nn.Module):
    """Features of frames of one sample each, as they are."""

    features = 2

    def __init__(self) -> None:
        super().__init__()

    def forward(self, context: Tensor) -> Tensor:
        return context


def test_features_go_with_their_windows(tmp_path: Path) -> None:
    features = torch.randn(2, sum(LENGTHS))
    described = part(features=features)
    data, model = recordings(train=described, valid=described, test=described), causal(conditioner=Sequence())
    found = evaluate(model, data)
    pieces = zip(described.x.split(LENGTHS, 1), features.split(LENGTHS, 1), strict=True)
    nats = sum(-model.log_prob(x[None], given[None]).item() for x, given in pieces)
    assert found.nats == pytest.approx(nats / 6, rel=1e-6)
    assert found.given == "the context"
    assert train(model, data, tmp_path, steps=2).valid_nats is not None


def test_baselines_of_samples_by_hand() -> None:
    data = recordings(train=part((30, 9)))
    found = baselines(data)
    seen = torch.bincount(data.split("train").x.flatten().long(), minlength=4).double() + 1
    bits = -(seen / seen.sum()).log2()[data.split("test").x.long()].mean().item()
    assert list(found) == ["uniform", "global histogram"]
    assert found["uniform"]["bits_per_dim"] == pytest.approx(2)
    assert found["uniform"]["nats"] == pytest.approx(sum(LENGTHS) / 6 * math.log(4))
    assert found["global histogram"]["bits_per_dim"] == pytest.approx(bits)


def test_an_objective_is_told_what_is_counted_where_not_all_is() -> None:
    told: list[dict[str, Any]] = []

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int, **more: Any) -> Tensor:
        told.append(more)
        return nll(model, x, context, step, **more)

    model, x = causal(), torch.randint(4, (2, 1, 8))
    counted = torch.arange(8) >= 5
    objective = Objective(model, loss)
    torch.testing.assert_close(objective(x, None, 0), -model.log_prob(x))
    torch.testing.assert_close(objective(x, None, 0, counted), -model.log_probs(x)[:, 0, 5:].sum(1))
    assert [list(more) for more in told] == [[], ["counted"]]


def four(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
    return nll(model, x, context, step)


def test_a_loss_that_knows_no_windows_is_refused_for_them_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be told what is new in a window: give it an argument counted"):
        train(causal(), recordings(), tmp_path / "run", steps=1, loss=four)
    assert not (tmp_path / "run").exists()
    torch.testing.assert_close(Objective(causal(), four)(torch.zeros(1, 1, 8), None, 0).shape, torch.Size([1]))


def test_how_recordings_are_cut_does_not_change_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of all windows has the gradient of all samples, each as heavy as any other."""
    monkeypatch.setattr(WaveNet, "initialize", lambda model, *batch: None)  # by some of the samples
    for window in (4, 8, 20):
        train(causal(classes=3), recordings(window), tmp_path / str(window), steps=12, lr=0.02, batch_size=100)
    for window in (4, 8):
        for name, tensor in tensors(tmp_path / "20").items():
            found = tensors(tmp_path / str(window))[name]
            torch.testing.assert_close(found, tensor, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        bits = [[r["bits_per_dim"] for r in records(tmp_path / str(w))] for w in (window, 20)]
        assert bits[0] == pytest.approx(bits[1], rel=1e-4)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training leaves the weights as they are."""
    monkeypatch.setattr(WaveNet, "initialize", lambda model, *batch: None)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *arguments, **more: None)


def test_what_is_told_is_of_all_samples(still: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = causal(), recordings()
    bits = whole(model, data, "train").sum().item() / sum(LENGTHS) / math.log(2)
    summary = train(model, data, tmp_path, steps=3, batch_size=4)  # of ten windows: an epoch
    (first, second, third) = records(tmp_path, "train")
    part = data.split("train")
    batches = Batches(10, 4, 0, part.widths(torch.arange(10), model.reach))
    sizes = [int(part.counts(batches.at(step)[1]).sum()) for step in range(3)]
    assert len(set(sizes)) > 1
    total = sum(r["bits_per_dim"] * n for r, n in zip((first, second, third), sizes, strict=True))
    assert total / sum(sizes) == pytest.approx(bits, rel=1e-5)
    assert summary.valid_bits_per_dim == pytest.approx(evaluate(model, data, "valid").bits_per_dim, rel=1e-5)
    assert summary.valid_nats == pytest.approx(summary.valid_bits_per_dim * 8 * math.log(2))
    assert re.search(r"^step 3/3: [\d.]+ bits/sample \(valid [\d.]+\), [\d,]+ samples/s", capsys.readouterr().err, re.M)


def test_figures_between_two_records_are_of_all_their_samples(
    still: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ancestral.training.logs.POINTS", 1)
    model, data = causal(), recordings()
    bits = whole(model, data, "train").sum().item() / sum(LENGTHS) / math.log(2)
    train(model, data, tmp_path, steps=3, batch_size=4)
    (record,) = records(tmp_path, "train")
    assert record["bits_per_dim"] == pytest.approx(bits, rel=1e-5)


def test_every_sample_of_an_epoch_has_the_same_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of short windows included: their gradients add up to that of all samples."""
    model, data, seen = causal(), recordings(), []
    monkeypatch.setattr(WaveNet, "initialize", lambda model, *batch: None)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *arguments, **more: seen.append(model.first.weight.grad))
    train(model, data, tmp_path, epochs=1, batch_size=4)
    assert len(seen) == 3
    index = torch.arange(10)
    x, _, counted = data.reaching(model.reach).examples("train", index)
    mean = nll(model, x, None, 0, counted).sum() / sum(LENGTHS)
    (expected,) = torch.autograd.grad(mean, [model.first.weight])
    torch.testing.assert_close(sum(seen) / 3, expected)


def test_windows_have_a_usual_size_of_batches(tmp_path: Path) -> None:
    long = recordings(10_000, train=part((60_000,), window=10_000))
    assert train(causal(), long, tmp_path, steps=1).epochs == pytest.approx(1 / 3)  # 2 windows of 6


def test_training_on_recordings_learns(tmp_path: Path) -> None:
    model, data = causal(classes=3), recordings()
    before = evaluate(model, data).bits_per_dim
    train(model, data, tmp_path, steps=60, lr=0.03, batch_size=6)
    after = evaluate(model, data)
    assert after.bits_per_dim < min(before, after.baselines["global histogram"]["bits_per_dim"]) - 0.3


def test_a_resumed_run_of_recordings_is_the_run_that_was_never_stopped(tmp_path: Path) -> None:
    model, parts = causal(classes=3), causal(classes=3)
    train(model, recordings(), tmp_path / "whole", steps=20, batch_size=4)
    stopped = train(parts, recordings(), tmp_path / "parts", steps=20, batch_size=4, on_progress=interrupting(9))
    assert stopped.interrupted
    train(causal(classes=3), recordings(), tmp_path / "parts", resume=True)
    assert_equal(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
    assert records(tmp_path / "whole", "valid") == records(tmp_path / "parts", "valid")


def test_minutes_are_measured_on_recordings(tmp_path: Path) -> None:
    summary = train(causal(), recordings(), tmp_path, minutes=0.02, batch_size=4)
    assert summary.steps > 1
    assert summary.seconds < 3


def test_the_data_initialise_a_model_of_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(WaveNet, "initialize", lambda model, *batch: given.append(batch))
    train(causal(classes=3), recordings(), tmp_path, steps=1, batch_size=10)
    ((x, labels),) = given
    assert x.shape == (10, 1, 8 + causal().reach)  # with the past
    assert labels.shape == (10,)


def test_many_windows_are_validated_by_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    data = recordings(valid=part((800,)))
    assert validated(data).tolist() == list(range(100))
    monkeypatch.setattr(validating, "VALIDATED", 30)
    chosen = validated(data)
    assert len(chosen.unique()) == 30
    assert torch.equal(chosen, validated(data))
    assert int(chosen.max()) > 50
    monkeypatch.setattr(validating, "VALIDATED_VALUES", 80)
    assert len(validated(data)) == 10


def test_words_for_recordings() -> None:
    found = evaluate(causal(classes=3), recordings()).to_json() | {"source": "sounds"}
    assert evaluation_rows("tiny", found)[0] == ("model", "bits/sample", "nats")
    assert summary_line(found) == "all 6 recordings of the test part of sounds, exact log-likelihood"
    heard = found | {"count": 250, "examples": 300, "values": 896_000, "rate": 8000}
    assert summary_line(heard).startswith("250 of 300 recordings of the test part of sounds, 112 s at 8000 Hz, exact")
