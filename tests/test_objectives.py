"""Losses of models with latents: values, gradients, and what they leave alone."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ancestral.cli.settings import loss_of
from ancestral.latents import BottomUp, Dense, Ladder, MeanField, Posterior
from ancestral.likelihoods import GaussianMixture
from ancestral.models import MADE, HierarchicalVAE
from ancestral.objectives import elbo, iwae
from ancestral.walk import Joint

X = torch.tensor([[0.3, -1.2, 0.8], [1.1, 0.4, -0.6]], dtype=torch.float64)
TIMES = 20_000


def linear(posterior: Posterior) -> HierarchicalVAE:
    torch.manual_seed(5)
    network = Dense(hidden=(4, 4), layers=0)
    model = HierarchicalVAE(
        shape=(3,), likelihood=GaussianMixture(1), latents=(2, 1), network=network, posterior=posterior
    )
    return model.double()


def gradients(model: HierarchicalVAE, loss: iwae, times: int = TIMES, parts: int = 10) -> tuple[Tensor, Tensor]:
    """The mean gradient of the first example over many draws, and its standard error, all parameters in a row."""
    x, found = X[:1].expand(times // parts, 3), []
    parameters = list(model.parameters())
    for _ in range(parts):
        slopes = torch.autograd.grad(loss(model, x, None, 0).mean(), parameters, allow_unused=True)
        wanted = zip(slopes, parameters, strict=True)
        found.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in wanted]))
    stacked = torch.stack(found)
    return stacked.mean(0), stacked.std(0) / math.sqrt(parts)


@pytest.mark.parametrize("posterior", [BottomUp(), MeanField(), Ladder()], ids=repr)
def test_doubly_reparameterized_gradients_have_the_mean_of_the_plain_ones(posterior: Posterior) -> None:
    model = linear(posterior)
    plain, plain_se = gradients(model, iwae(3))
    other, other_se = gradients(model, iwae(3, doubly_reparameterized=True))
    assert float(plain.abs().max()) > 0.1
    gap = (plain - other).abs() / (plain_se.square() + other_se.square() + 1e-16).sqrt()
    assert float(gap.max()) < 6
    assert float(gap.square().mean()) < 3


def test_the_value_is_the_bound_and_parameters_stay_trainable() -> None:
    model = linear(BottomUp())
    torch.manual_seed(1)
    plain = iwae(4)(model, X, None, 0)
    torch.manual_seed(1)
    other = iwae(4, doubly_reparameterized=True)(model, X, None, 0)
    torch.testing.assert_close(other, plain)
    other.sum().backward()
    assert all(p.requires_grad and p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("posterior", [BottomUp(), MeanField(), Ladder()], ids=repr)
def test_latents_are_weighed_by_the_density_they_were_drawn_from_under_dropout(posterior: Posterior) -> None:
    torch.manual_seed(5)
    network = Dense(hidden=(9, 9), layers=1, dropout=0.5)
    head = GaussianMixture(1)
    model = HierarchicalVAE(shape=(3,), likelihood=head, latents=(2, 1), network=network, posterior=posterior).double()
    torch.manual_seed(1)
    found = iwae(4, doubly_reparameterized=True)(model, X, None, 0)
    torch.manual_seed(1)
    noise = Joint(X, tuple(model.noise(4 * len(X), shape) for shape in model.network.shapes))
    torch.testing.assert_close(found, math.log(4) - model.log_weights(X, None, 4, noise=noise).logsumexp(0))


def test_free_bits_are_of_a_level_in_the_mean_over_the_batch() -> None:
    model = linear(MeanField())
    torch.manual_seed(2)
    terms = model.terms(X)
    means = terms.kl.mean(0).detach()
    between = float(means.mean())
    assert float(means.min()) < between < float(means.max())
    torch.manual_seed(2)
    found = elbo(free_bits=between)(model, X, None, 0)
    expected = -terms.log_px.mean() + means.clamp(min=between).sum()
    torch.testing.assert_close(found.mean(), expected)


def test_free_bits_below_the_floor_have_no_gradient() -> None:
    model = linear(MeanField())
    terms = lambda loss: loss(model, X, None, 0).sum()  # noqa: E731
    torch.manual_seed(3)
    free = torch.autograd.grad(terms(elbo(free_bits=1e4)), model.network.posteriors[1].weight, allow_unused=True)[0]
    torch.manual_seed(3)
    paid = torch.autograd.grad(terms(elbo()), model.network.posteriors[1].weight)[0]
    assert free is None or not free.any()
    assert paid.any()


def test_warm_up_weighs_divergences_by_the_step() -> None:
    model, losses = linear(BottomUp()), {}
    for step in (0, 4, 9, 50):
        torch.manual_seed(4)
        losses[step] = elbo(warm_up=10)(model, X, None, step)
    torch.manual_seed(4)
    terms = model.terms(X)
    for step, weight in ((0, 0.1), (4, 0.5), (9, 1.0), (50, 1.0)):
        torch.testing.assert_close(losses[step], weight * terms.kl.sum(1) - terms.log_px)


@pytest.mark.parametrize("loss", [elbo(1.0, 0.1, 2000), iwae(5), iwae(7, True)], ids=repr)
def test_what_is_recorded_can_be_typed(loss: object, tmp_path: Path) -> None:
    assert loss_of(str(loss), tmp_path, False) == loss


@pytest.mark.parametrize("loss", [elbo(), iwae()], ids=repr)
def test_exact_models_are_refused(loss: object) -> None:
    with pytest.raises(ValueError, match="MADE has none: its loss is nll"):
        loss(MADE(shape=(3,)), torch.zeros(2, 3), None, 0)  # type: ignore[operator]


@pytest.mark.parametrize("wrong", [lambda: elbo(-1), lambda: elbo(1, -0.1), lambda: elbo(warm_up=-1), lambda: iwae(0)])
def test_wrong_arguments(wrong: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        wrong()  # type: ignore[operator]
