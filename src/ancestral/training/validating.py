"""What validation measures of the valid part, in one pass: the likelihood, and what each level of latents takes."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ancestral.data import Data, Recordings
from ancestral.evaluation import per_example
from ancestral.model import Model
from ancestral.models.latent import LatentVariables
from ancestral.training.schedule import permutation

__all__ = ["Validation", "validated", "validation"]

VALIDATED, VALIDATED_VALUES = 2000, 2**17  # examples, and new values of windows of recordings, at most


class Validation(NamedTuple):
    """What validation found.

    Attributes:
        nats: mean of -log p(x), or of the bound on it; of windows of recordings, of as many values as a whole one has.
        kl: mean KL of every level of latents, z_1 first, in nats of an example; None of a model without latents.
    """

    nats: float
    kl: list[float] | None


def validated(data: Data) -> Tensor:
    """Return the indices of the examples to validate by: all, or a seeded choice where they are many.

    Of recordings these are windows, no whole recordings: each has its past, and one recording may be very long.
    """
    part = data.split("valid")
    if not isinstance(part, Recordings):
        return data.limited("valid", VALIDATED)
    share = min(1, VALIDATED / len(part), VALIDATED_VALUES / part.x.numel())
    return permutation(len(part), 0, 0)[: max(1, int(share * len(part)))].sort().values


def validation(model: Model, data: Data, index: Tensor, variables: int) -> Validation:
    """Return what a model comes to on these examples of the valid part; nats are of so many variables."""
    columns = per_example(partial(measured, model), model, data, "valid", index)
    mean = columns[:, 0].sum().item() / int(data.counts("valid", index).sum())
    kl = columns[:, 1:].mean(0).tolist() if isinstance(model, LatentVariables) else None
    return Validation(-(mean * variables + data.log_cell), kl)


def measured(model: Model, x: Tensor, context: Tensor | None, counted: Tensor | None = None) -> Tensor:
    """Return log p(x) of each example or the ELBO, then the KL of every level, from the same draw: (B, 1 + L) nats."""
    if not isinstance(model, LatentVariables):
        return model.log_prob(x, context, counted=counted)[:, None]
    terms = model.terms(x, context, counted)
    return torch.cat([terms.elbo()[:, None], terms.kl], 1)
