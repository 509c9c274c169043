"""How likely data is under trivial models, beside which a likelihood means something."""

import math

import torch
from torch import Tensor

from ancestral.data import Data, Recordings

__all__ = ["baselines"]


def baselines(data: Data, split: str = "test", index: Tensor | None = None) -> dict[str, dict[str, float | None]]:
    """Return nats and bits_per_dim of trivial models of a split, by name.

    Of levels, under noise or not: "uniform"; "global histogram", one for all variables; "independent histogram", one
    for each; both from the train part, with one added to every count. Of continuous values: "gaussian", with the mean
    and the full covariance of the train part. In recordings no sample has a place of its own: one law for all of them.

    Args:
        data: discrete or continuous.
        split: what is scored.
        index: which examples of it, or windows, (N,); all by default.
    """
    part = data.split(split)
    if isinstance(part, Recordings):
        return of_samples(data, part, torch.arange(len(part)) if index is None else index)
    x = part.x if index is None else part.x[index]
    train = data.split("train").x
    if data.discrete is None:
        return {"gaussian": figures(gaussian(train, x), None)} if len(train) > 1 else {}
    levels, variables = data.discrete, math.prod(data.shape)
    found = {"uniform": variables * math.log(levels)}
    if len(train):
        found["global histogram"] = variables * histogram(train.flatten(), x.flatten(), levels)
        columns = zip(train.flatten(1).T, x.flatten(1).T, strict=True)
        found["independent histogram"] = sum(histogram(seen, new, levels) for seen, new in columns)
    return {name: figures(nats, variables) for name, nats in found.items()}


def of_samples(data: Data, part: Recordings, index: Tensor) -> dict[str, dict[str, float | None]]:
    """Return the baselines of recordings; nats are of a recording."""
    x, train = part.new(index), data.split("train").x
    size = x.numel() / len(part.recording[index].unique())
    if data.discrete is None:
        samples = size / len(x)
        return {"gaussian": figures(samples * gaussian(train.T, x.T), None)} if train.shape[1] > 1 else {}
    found = {"uniform": size * math.log(data.discrete)}
    if train.numel():
        found["global histogram"] = size * histogram(train.flatten(), x.flatten(), data.discrete)
    return {name: figures(nats, size) for name, nats in found.items()}


def figures(nats: float, variables: float | None) -> dict[str, float | None]:
    """Return nats, and what they are in bits a variable."""
    return {"nats": nats, "bits_per_dim": nats / (variables * math.log(2)) if variables is not None else None}


def histogram(train: Tensor, x: Tensor, levels: int) -> float:
    """Return the mean of -log p(x) under the frequencies of `train`, both (N,), with one added to every count."""
    counts = torch.bincount(train.long(), minlength=levels).double() + 1
    return -(counts / counts.sum()).log()[x.long()].mean().item()


def gaussian(train: Tensor, x: Tensor) -> float:
    """Return the mean of -log p(x) under the Gaussian with the mean and covariance of `train`, both (N, *shape)."""
    train, x = train.flatten(1).double(), x.flatten(1).double()
    mean, covariance = train.mean(0), torch.atleast_2d(train.T.cov())
    # so little more on the diagonal makes columns that depend on each other no error
    ridge = 1e-9 * covariance.diagonal().mean() * torch.eye(len(mean), dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(mean, covariance + ridge)
    return -law.log_prob(x).mean().item()
