"""Training of models with latents: exact resuming, recovery, and what a warm-up must not reach."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ancestral.checkpoint import load
from ancestral.latents import Dense, Ladder
from ancestral.model import Model
from ancestral.models import HierarchicalVAE
from ancestral.objectives import elbo, iwae, nll
from ancestral.training import train
from ancestral.training.validating import validation
from small_runs import assert_equal, records, some_data, tensors


def normalised() -> HierarchicalVAE:
    """A model whose layers normalise by batches."""
    torch.manual_seed(0)
    network = Dense(hidden=(8, 6), rectified=True, batch_norm=True, dropout=0.1)
    return HierarchicalVAE(shape=some_data().shape, latents=(3, 2), network=network, posterior=Ladder())


def spoilt_at(steps: set[int]) -> object:
    """The loss, but with values in these steps that reach every running mean and are no numbers."""

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        if step not in steps:
            return nll(model, x, context, step)
        assert isinstance(model, HierarchicalVAE)
        network = model.network
        for layers in (*network.ups, *network.downs):
            for layer in layers:
                if isinstance(layer, torch.nn.BatchNorm1d):
                    layer(torch.full((4, layer.num_features), math.inf))
        return nll(model, x, context, step) * math.nan

    return loss


def test_running_means_outlive_a_step_that_is_skipped(tmp_path: Path) -> None:
    summary = train(normalised(), some_data(), tmp_path, steps=12, loss=spoilt_at({3, 4, 8}))  # type: ignore[arg-type]
    assert (summary.steps, summary.skipped) == (12, 3)
    state = load(tmp_path).state_dict()
    assert any("running_mean" in name for name in state)
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())
    assert all(bool(tensor.isfinite().all()) for tensor in tensors(tmp_path).values())


def test_running_means_are_averaged_with_the_weights(tmp_path: Path) -> None:
    model, seen = normalised(), []

    def watching(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        seen.append(model.network.ups[0][2].running_mean.clone())  # type: ignore[union-attr, index]
        return nll(model, x, context, step)

    train(model, some_data(), tmp_path, steps=12, loss=watching)
    mean = load(tmp_path).network.ups[0][2].running_mean  # type: ignore[union-attr, index]
    assert not torch.equal(mean, seen[-1])
    assert float((mean - seen[-1]).norm()) < float((mean - seen[0]).norm())


@pytest.mark.parametrize("loss", [nll, elbo(free_bits=0.3, warm_up=8), iwae(3, doubly_reparameterized=True)], ids=repr)
def test_a_run_that_is_resumed_ends_as_one_that_was_not_stopped(tmp_path: Path, loss: object) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(normalised(), some_data(), whole, steps=12, loss=loss)  # type: ignore[arg-type]

    def stopping(record: dict[str, object]) -> None:
        if record["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(normalised(), some_data(), parts, steps=12, loss=loss, on_progress=stopping)  # type: ignore[arg-type]
    torch.rand(3)  # whatever the generators are at
    train(normalised(), some_data(), parts, loss=loss, resume=True)  # type: ignore[arg-type]
    assert_equal(load(whole).state_dict(), load(parts).state_dict())
    assert records(whole, "valid") == records(parts, "valid")


def test_a_warm_up_does_not_reach_validation(tmp_path: Path) -> None:
    """Whatever training weighs, what is recorded of the valid part is the ELBO."""
    summary = train(normalised(), some_data(), tmp_path, steps=6, loss=elbo(beta=0.1, warm_up=1000))
    data, model = some_data(), load(tmp_path)
    index = torch.arange(len(data.split("valid")))
    found = validation(model, data, index, math.prod(data.shape))
    assert found.nats == pytest.approx(summary.valid_nats)
    assert found.kl is not None
    x = data.split("valid").x
    torch.manual_seed(1)
    with torch.no_grad():
        several = torch.stack([-model.log_prob(x) for _ in range(200)]).mean(1)
    assert abs(found.nats - float(several.mean())) < 6 * float(several.std())
