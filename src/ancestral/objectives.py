"""What training minimises: functions (model, x, context, step) -> (B,) nats, and the module that a trainer wraps.

A loss of windows of recordings takes `counted` too, and is that of the counted values. Those of latent variables are
values: `elbo(warm_up=2000)`, `iwae(k=5)`.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ancestral.likelihoods import check_count
from ancestral.model import Model
from ancestral.models.latent import LatentVariables
from ancestral.walk import Infer, Joint

__all__ = ["LOSSES", "Loss", "Objective", "elbo", "iwae", "nll", "takes_windows"]

Loss = Callable[..., Tensor]  # (model, x, context, step), and counted=mask for windows


def nll(model: Model, x: Tensor, context: Tensor | None, step: int, counted: Tensor | None = None) -> Tensor:
    """Return -log p(x), or an upper bound on it where the model is not exact: (B,) nats.

    Args:
        model: whose likelihood.
        x: (B, *shape).
        context: as the model was built for.
        step: number of the training step, for models that train on something else from step to step (masks of MADE).
        counted: bool, broadcast to x: the values that are scored, where these are not all; see `Model.log_prob`.
    """
    return -model.log_prob(x, context, counted=counted, **model.resampled(step))


@dataclass(frozen=True)
class elbo:  # noqa: N801 (it stands beside the function nll)
    """The negative ELBO with weighted divergences: -log p(x|z) + beta sum_l max(free_bits, KL_l).

    Only training minimises it; evaluation always reports the ELBO itself.

    Attributes:
        beta: weight of the divergences.
        free_bits: nats of each level that cost nothing. The maximum is that of the mean over the batch, a level being
            one group (1606.04934, section C.8; 1902.02102).
        warm_up: steps over which the weight rises from zero (1602.02282, section 2.3).
    """

    beta: float = 1.0
    free_bits: float = 0.0
    warm_up: int = 0

    def __post_init__(self) -> None:
        for name in ("beta", "free_bits"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        check_count("warm_up", self.warm_up, 0)

    def __call__(self, model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        terms = with_latents(model, self).terms(x, context)
        beta = self.beta * min(1.0, (step + 1) / self.warm_up) if self.warm_up else self.beta
        kl = torch.where(terms.kl.mean(0) < self.free_bits, self.free_bits, terms.kl)
        return -terms.log_px + beta * kl.sum(1)


@dataclass(frozen=True)
class iwae:  # noqa: N801 (it stands beside the function nll)
    """The negative importance-weighted bound of k draws (1509.00519, equation 8).

    Attributes:
        k: draws of each example.
        doubly_reparameterized: train the posterior by the gradient of 1810.04152, which has the same mean, and whose
            noise does not drown it where k is large.
    """

    k: int = 5
    doubly_reparameterized: bool = False

    def __post_init__(self) -> None:
        check_count("k", self.k, 1)

    def __call__(self, model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        model = with_latents(model, self)
        if self.doubly_reparameterized:
            return doubly_reparameterized(model, x, context, self.k)
        return -log_mean(model.log_weights(x, context, self.k))


LOSSES: dict[str, type[elbo] | type[iwae]] = {"elbo": elbo, "iwae": iwae}


def log_mean(log_w: Tensor) -> Tensor:
    """Return the logarithm of the mean weight, from log-weights (K, B)."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def doubly_reparameterized(model: LatentVariables, x: Tensor, context: Tensor | None, k: int) -> Tensor:
    """Return the loss of `iwae`, with the gradient of 1810.04152, equation 8.

    With w~ the normalised weights: what generates is trained by sum w~ d log w, what infers only by way of the latents
    it draws, by sum w~^2 (d log w / dz) (dz / d phi), where the density q(z|x) is that of constant parameters. While
    d log w / dz is taken the latents are leaves: in a hierarchy they depend on each other, which dz / d phi has.
    All three passes drop the same features: a latent is weighed by the density that it was drawn from.
    """
    uniforms = (model.noise(k * len(x), shape) for shape in model.network.shapes)
    drawn = Infer(x, Joint(x, tuple(uniforms)))
    forked = partial(torch.random.fork_rng, [model.device] if model.device.type == "cuda" else [])
    with forked():
        model.inferred(x, context, drawn, k)
    leaves = {level: z.detach().requires_grad_() for level, z in drawn.z.items()}
    p, q = Infer(x, z=leaves), Infer(x, z=leaves)
    with forked():
        log_w = model.log_px(x, model.inferred(x, context, p, k))
    with frozen(model):
        model.inferred(x, context, q, k)
    for level, z in leaves.items():
        log_w = log_w + p.p[level].log_prob(z) - q.q[level].log_prob(z)
    log_w = log_w.view(k, len(x))
    share = log_w.detach().softmax(0)
    slopes = torch.autograd.grad((share.square() * log_w).sum(), list(leaves.values()), retain_graph=True)
    gain = (share * log_w).sum(0)
    for level, slope in zip(leaves, slopes, strict=True):
        gain = gain + (slope * drawn.z[level]).flatten(1).sum(1).view(k, len(x)).sum(0)
    return (gain - log_mean(log_w)).detach() - gain


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Take the parameters as constants in what is computed meanwhile."""
    learning = [p for p in model.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)


def with_latents(model: Model, loss: Loss) -> LatentVariables:
    """Return the model, or raise ValueError where it has no latents."""
    if not isinstance(model, LatentVariables):
        raise ValueError(
            f"{loss} is for models with latents; {type(model).__name__} has none: its loss is nll, the default"
        )
    return model


def check_loss(loss: Loss, model: Model) -> None:
    """Raise ValueError where a loss of this library is not for the model."""
    if isinstance(loss, elbo | iwae):
        with_latents(model, loss)


def takes_windows(loss: Loss) -> bool:
    """Return whether a loss can be told which values of a window are counted."""
    try:
        inspect.signature(loss).bind(None, None, None, 0, counted=None)
    except TypeError:
        return False
    return True


class Objective(nn.Module):
    """A loss as a module, because only the `forward` of a wrapped module is synchronised between processes.

    Args:
        model: what is trained.
        loss: of each example.
    """

    def __init__(self, model: Model, loss: Loss = nll) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, x: Tensor, context: Tensor | None, step: int, counted: Tensor | None = None) -> Tensor:
        """Return the loss of each example, (B,) nats, of its counted values where these are not all."""
        windows = {} if counted is None else {"counted": counted}
        return self.loss(self.model, x, context, step, **windows)
