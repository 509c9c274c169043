"""What the levels of a model with latents tell of examples: bounds and KL, active units, levels that have collapsed.

The KL of a level is at least the information that it adds to what the levels above say of an example. A unit is active
where the mean of its posterior moves with x: Cov_x(E_q[u|x]) > 0.01 (1509.00519, section 5.2).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ancestral.conditioning import OneHot
from ancestral.distributions import Distribution, Gaussian
from ancestral.models.latent import LatentVariables
from ancestral.walk import Infer

__all__ = [
    "ACTIVE",
    "COLLAPSED",
    "Level",
    "active_units",
    "bounds",
    "examples_for",
    "levels_of",
    "movements",
    "posterior_means",
]

ACTIVE = 0.01  # variance over x of the posterior mean of a unit, whose prior has a variance of about 1
COLLAPSED = 0.1  # nats: a level with less says of an example not even a seventh of a bit, beside dozens of nats
EXAMPLES, NUMBERS = 2000, 2**24  # that active units are counted on: examples, and means of all units, at most
DRAWS = 16  # of the latents that a posterior depends on, in each of two sets


@dataclass(frozen=True)
class Level:
    """What one level of latents does.

    Attributes:
        level: its number, from 1 beside x.
        kl: mean of KL(q || p), nats of an example.
        kl_se: its standard error; None of a single example.
        units: variables of the level; of maps each at each place.
        active: units whose posterior mean moves with x.
        collapsed: whether the KL is next to nothing: the posterior is the prior.
    """

    level: int
    kl: float
    kl_se: float | None
    units: int
    active: int
    collapsed: bool


def bounds(
    model: LatentVariables, samples: int, x: Tensor, context: Tensor | None, counted: Tensor | None = None
) -> Tensor:
    """Return lower bounds on log p(x) and the KL of every level, (B, 3 + L) nats.

    They are the importance-weighted bound of `samples` draws, the same averaged over labels (the first again where
    there are no classes, and of windows of recordings), the ELBO, and the KL of z_1, z_2 and so on.
    """
    terms = model.terms(x, context, counted)
    elbo = terms.elbo().double()
    tight = elbo if samples == 1 else model.log_prob(x, context, counted=counted, samples=samples).double()
    labelled = counted is None and isinstance(model.conditioner, OneHot) and context is not None
    averaged = over_labels(model, samples, x, context, tight) if labelled and context is not None else tight
    return torch.cat([torch.stack([tight, averaged, elbo], 1), terms.kl.double()], 1)


def over_labels(model: LatentVariables, samples: int, x: Tensor, labels: Tensor, tight: Tensor) -> Tensor:
    """Return a lower bound on log(sum_y p(x|y) / classes), (B,) nats.

    The own label of an example has all draws, the others share as many: it costs twice the bound of one label, not
    `classes` times. Every share makes an unbiased estimate of p(x|y), so the logarithm of their mean is a bound. Of the
    ELBO that is not so: with divergences in closed form exp(ELBO) may be larger than p(x|y) in the mean.

    Args:
        model: class-conditional.
        samples: draws of the own label.
        x: (B, *shape).
        labels: (B,).
        tight: the bound on log p(x|y) of the own label by so many draws, (B,) nats.
    """
    assert isinstance(model.conditioner, OneHot)
    classes = model.conditioner.classes
    share = -(-samples // classes)
    by_label = torch.stack([estimated(model, x, torch.full_like(labels, y), share) for y in range(classes)], 1)
    if samples > 1:
        by_label = by_label.scatter(1, labels[:, None], tight[:, None])
    return by_label.logsumexp(1) - math.log(classes)


def estimated(model: LatentVariables, x: Tensor, context: Tensor, samples: int) -> Tensor:
    """Return the logarithm of an unbiased estimate of p(x|context), (B,) nats."""
    if samples == 1:
        return model.log_weights(x, context)[0].double()
    return model.log_prob(x, context, samples=samples).double()


def examples_for(model: LatentVariables) -> int:
    """Return how many examples active units are counted on, at most."""
    return max(2, min(EXAMPLES, NUMBERS // (2 * sum(map(math.prod, model.network.shapes)))))


def posterior_means(model: LatentVariables, x: Tensor, context: Tensor | None, counted: Tensor | None = None) -> Tensor:
    """Return two independent estimates of E_q[u|x] of all units, z_1 first: (B, 2, F).

    A level whose posterior depends on other levels has another mean for each draw of these; the mean over a few draws
    is unbiased, and the covariance of two such means has not what a variance would have of their noise.
    """
    return torch.stack([posterior_mean(model, x, context) for _ in range(2)], 1)


def posterior_mean(model: LatentVariables, x: Tensor, context: Tensor | None) -> Tensor:
    """Return E_q[u|x] of all units, z_1 first, by a few draws of the latents that these depend on: (B, F)."""
    total = torch.zeros(())
    for times in model.chunks(len(x), DRAWS):
        source = Infer(x)
        model.inferred(x, context, source, times)
        means = [mean_of(source.q[level]).flatten(1) for level in model.levels]
        total = total.to(x.device) + torch.cat(means, 1).view(times, len(x), -1).sum(0)
    return total / DRAWS


def mean_of(q: Distribution) -> Tensor:
    """Return the mean of a posterior."""
    assert isinstance(q, Gaussian), f"the mean of {type(q).__name__} is not known"
    return q.mean


def movements(means: Tensor) -> Tensor:
    """Return Cov_x(E_q[u|x]) of every unit (F,), by two estimates of the posterior means of examples, (N, 2, F)."""
    one, other = (means - means.mean(0)).double().unbind(1)
    return (one * other).sum(0) / max(1, len(means) - 1)


def active_units(means: Tensor) -> Tensor:
    """Return which units are active, bool (F,), by two estimates of the posterior means of examples, (N, 2, F)."""
    return movements(means) > ACTIVE


def levels_of(model: LatentVariables, kl: list[tuple[float, float | None]], means: Tensor) -> list[Level]:
    """Return what the levels do, z_1 first.

    Args:
        model: whose levels these are.
        kl: of each level its mean KL and the standard error, nats.
        means: of the posterior, see `active_units`.
    """
    sizes = [math.prod(shape) for shape in model.network.shapes]
    found = zip(model.levels, kl, sizes, active_units(means).split(sizes), strict=True)
    return [
        Level(level, nats, se, size, int(active.sum()), nats < COLLAPSED) for level, (nats, se), size, active in found
    ]
