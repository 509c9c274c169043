"""What models with latent variables share: the walk over whole latents, bounds, inference, completion.

Such a model is one traversal, from the top latent down to x: `Posterior.walk`, then the model's own walk over x.
Training and evaluation drive its latent part with the source `Infer`, so that there is nothing that could disagree.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ancestral.conditioning import features_of
from ancestral.distributions import Distribution
from ancestral.latents import Network, Posterior
from ancestral.latents.posteriors import Descent, State
from ancestral.likelihoods import check_count
from ancestral.model import Model, resampled_by
from ancestral.walk import Complete, Fixed, Infer, Joint, Sample, Walk, drive

__all__ = ["LatentVariables", "Terms", "check_latents"]

VALUES = 2**21  # of x at once, where several draws of its latents are weighed
FEWEST = 1024  # values that an example counts as, at least: hidden layers take memory too
ROUNDS = 10  # of a completion: latents given x, then the unknown part of x given these


class Terms(NamedTuple):
    """What the ELBO of each example is made of.

    Attributes:
        log_px: log p(x|z) of one draw z of the posterior, (B,) nats.
        kl: of every level, z_1 first, (B, L) nats; see `Infer.kl`.
    """

    log_px: Tensor
    kl: Tensor

    def elbo(self) -> Tensor:
        """Return the ELBO, (B,) nats."""
        return self.log_px - self.kl.sum(1)


if TYPE_CHECKING:  # to a type checker the mixin is a Model, whose methods it uses; a model inherits from both
    Base = Model
else:
    Base = object


class LatentVariables(Base):
    """Mixin of a `Model` with latents z_1 .. z_L: p(x, z) = p(x|z) p(z), and a posterior q(z|x).

    `log_prob` is a lower bound on log p(x): the ELBO, or the importance-weighted bound of `samples` draws (1509.00519).

    Attributes:
        network: the layers between x and the latents.
        posterior: how these infer the latents.
        prior: a model of the top latent, in the place of the network's Gaussian, or None.
        features: that a value of x counts as, where several draws are weighed at once.
    """

    exact = False
    features = 1
    network: Network
    posterior: Posterior
    prior: Model | None

    @abstractmethod
    def log_px(self, x: Tensor, state: State, counted: Tensor | None = None) -> Tensor:
        """Return log p(x|z) in one parallel pass, (K B,) nats.

        Args:
            x: (B, *shape); example i of the state is of x[i % B].
            state: what the latents tell x.
            counted: bool, broadcast to x: the values whose log p is added.
        """

    @abstractmethod
    def observed(self, batch: int, state: State) -> Walk:
        """Walk over x given the latents."""

    def observed_together(self, x: Tensor, state: State) -> Walk:
        """Walk over x given the latents and x itself, by one parallel pass; see `Model.parallel`."""
        return self.observed(len(x), state)

    def log_prob(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        counted: Tensor | None = None,
        samples: int = 1,
        **choice: Any,
    ) -> Tensor:
        """Return a lower bound on log p(x), (B,) nats, differentiable: a random one, whose mean is the bound.

        Args:
            x: (B, *shape).
            context: as the model was built for.
            counted: bool, broadcast to x: the values whose log p is added, all by default.
            samples: K of the importance-weighted bound; of 1 it is the ELBO, with divergences in closed form where
                there is one. Without gradients the memory does not grow with K.
            **choice: nothing.

        Raises:
            ValueError: x has another shape, or values outside the model's levels; the context does not fit; K < 1.
        """
        if check_count("samples", samples, 1) == 1:
            return self.terms(x, context, counted).elbo()
        bound = torch.full((len(x),), -math.inf, dtype=torch.float64, device=self.device)
        for times in self.chunks(len(x), samples):
            log_w = self.log_weights(x, context, times, counted)
            bound = torch.logaddexp(bound, log_w.double().logsumexp(0))
        return bound - math.log(samples)

    def chunks(self, batch: int, samples: int) -> list[int]:
        """Return how many draws of each example to weigh at once, again and again, for so many in all."""
        most = max(1, VALUES // max(1, batch * max(FEWEST, self.features * math.prod(self.shape))))
        return [min(most, samples - begin) for begin in range(0, samples, most)]

    def terms(
        self,
        x: Tensor,
        context: Tensor | None = None,
        counted: Tensor | None = None,
        *,
        noise: Joint | None = None,
    ) -> Terms:
        """Return what the ELBO is made of, by one draw of the posterior: of given uniforms, or fresh ones."""
        source = Infer(x, noise)
        state = self.inferred(x, context, source)
        return Terms(self.log_px(x, state, counted), torch.stack([source.kl[level] for level in self.levels], 1))

    def log_weights(
        self,
        x: Tensor,
        context: Tensor | None = None,
        times: int = 1,
        counted: Tensor | None = None,
        *,
        noise: Joint | None = None,
    ) -> Tensor:
        """Return log p(x, z) - log q(z|x) of several draws of the posterior for each example, (times, B) nats.

        Args:
            x: (B, *shape).
            context: as the model was built for.
            times: draws of each example.
            counted: bool, broadcast to x: the values whose log p is added, all by default.
            noise: uniforms of the draws, (times B, ...), all examples once, then all again; fresh ones by default.
        """
        source = Infer(x, noise)
        state = self.inferred(x, context, source, times)
        return source.log_weight(self.log_px(x, state, counted)).view(times, len(x))

    def inferred(self, x: Tensor, context: Tensor | None, source: Infer, times: int = 1) -> State:
        """Walk over the latents given x with that source, and return what they tell x."""
        return drive(self.descent(times * len(x), context, x), source)

    @property
    def levels(self) -> range:
        """The numbers of the latents, from 1 beside x to L at the top."""
        return range(1, len(self.network.shapes) + 1)

    def descent(self, batch: int, context: Tensor | None = None, x: Tensor | None = None) -> Descent:
        """Walk over the latents; see `Posterior.walk`. There are `batch` examples, a multiple of those of x."""
        if x is not None:
            self.check_shape(tuple(self.check(x).shape[1:]))
        context = self.check_context(context, batch if x is None else len(x))
        times = 1 if x is None else batch // max(1, len(x))
        told = self.told(context)
        told = None if told is None else told.repeat(times, 1)
        given = None if x is None else self.likelihood.scale(x).to(self.dtype)
        return self.posterior.walk(self.network, batch, told, given, self.top_of(context, times))

    def told(self, context: Tensor | None) -> Tensor | None:
        """Return the features of a context, (B, F)."""
        if self.conditioner is None or not features_of(self.conditioner):
            return None
        features = self.conditioner(context).to(self.dtype)
        if features.dim() != 2:
            raise ValueError(f"conditioner must give vectors (B, F) to latents, got {tuple(features.shape)}")
        return features

    def top_of(self, context: Tensor | None, times: int) -> Distribution | None:
        """Return p of the top latent where a model of its own says it."""
        if self.prior is None:
            return None
        if self.prior.conditioner is None or context is None:
            return Whole(self.prior, None)
        return Whole(self.prior, context.repeat(times, *(1,) * (context.dim() - 1)))

    @torch.no_grad()
    def walk(
        self,
        batch: int,
        context: Tensor | None = None,
        x: Tensor | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Walk:
        """Yield the latents at ("z", l), then x; given x with their posteriors, see `Posterior.walk`."""
        self.check_shape(tuple(shape or self.shape))
        state = yield from self.descent(batch, context, x)
        return (yield from self.observed(batch, state))

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError where an example has another shape than the model, whose latents are of one size."""
        if shape != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise ValueError(f"x must have shape (B, {wanted}), got examples of {shape}")

    def uniforms(self, n: int, generator: torch.Generator | None = None) -> Joint:
        """Return uniforms in [0, 1) for x and for all latents; see `Model.noise`."""
        x, *z = (self.noise(n, shape, generator) for shape in (self.shape, *self.network.shapes))
        return Joint(x, tuple(z))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | int | None = None,
        *,
        shape: tuple[int, ...] | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        latents: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        """Draw n examples; see `Model.sample`.

        Args:
            n: how many.
            context: as the model was built for, one for each example or one for all.
            shape: the model's own; its latents are of one size.
            temperature: T of every factor; of a Gaussian latent the variance is T times as large.
            generator: of the uniforms.
            latents: latents that are given, by level, each (n, *its shape); the others are drawn.

        Raises:
            ValueError: a latent that is given has another shape, or there is no such level.
        """
        latents = check_latents({} if latents is None else latents, self.network.shapes, n)
        noise = self.uniforms(n, generator)
        walk = self.walk(n, self.check_context(context, n), shape=shape)
        return drive(walk, Fixed(latents, Sample(noise, temperature)))

    @torch.no_grad()
    def infer(
        self, x: Tensor, context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, ...]:
        """Return a draw of the posterior, z_1 first, each (B, *shape of that level)."""
        source = Infer(x, self.uniforms(len(x), generator))
        self.inferred(x, context, source)
        return tuple(source.z[level] for level in self.levels)

    @torch.no_grad()
    def means(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the means of the posterior, z_1 first, each level given the means of those that it depends on."""
        middle = Joint(x, tuple(torch.full((len(x), *s), 0.5, device=self.device) for s in self.network.shapes))
        source = Infer(x, middle)
        self.inferred(x, context, source)
        return tuple(source.z[level] for level in self.levels)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return a representation of x, (B, F): the means of all latents, z_1 first, flattened."""
        return torch.cat([z.flatten(1) for z in self.means(x, context)], 1)

    def reconstruct(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return what the latents of x say of it, (B, *shape): a draw of p(x|z), for one z of the posterior.

        Args:
            x: (B, *shape).
            context: as the model was built for.
            temperature: of p(x|z); 0 for its mode.
            generator: of the draws.
        """
        z = self.infer(x, context, generator=generator)
        latents = dict(zip(self.levels, z, strict=True))
        return self.sample(len(x), context, temperature=temperature, generator=generator, latents=latents)

    def interpolate(
        self, a: Tensor, b: Tensor, steps: int = 8, context: Tensor | None = None, *, temperature: float = 0.0
    ) -> Tensor:
        """Return examples between a and b, (steps, *shape): latents go straight from the means of one to the other's.

        Args:
            a: one example, (*shape).
            b: another one.
            steps: how many, both ends included.
            context: of both, as the model was built for: one.
            temperature: of p(x|z); 0 for its mode.
        """
        check_count("steps", steps, 2)
        ends = torch.stack([a, b])
        means = self.means(ends, self.check_context(context, 2))
        share = torch.linspace(0, 1, steps, device=self.device, dtype=self.dtype)
        latents = {
            level: torch.lerp(z[:1], z[1:], share.view(-1, *(1,) * (z.dim() - 1)))
            for level, z in zip(self.levels, means, strict=True)
        }
        return self.sample(steps, context, temperature=temperature, latents=latents)

    @torch.no_grad()
    def complete(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | int | None = None,
        *,
        proposals: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw the unknown values of x given the known ones, approximately; see `Model.complete`.

        A chain draws latents given x, and what is unknown given the latents, in turn (1401.4082, appendix F): it
        begins with a sample and comes near to the conditional. Of several proposals one is chosen by its importance
        weight p(known, z) / q(z|x), which corrects what the posterior and the short chain get wrong.
        """
        check_count("proposals", proposals, 1)
        self.check_known(x, known)
        x = torch.where(known, x, torch.zeros_like(x))
        self.check(x)
        rows = torch.arange(len(x), device=x.device).repeat_interleave(proposals)
        context = self.check_context(context, len(x))
        told = None if context is None else context[rows]
        x, known = x[rows], known[rows]
        noise = self.uniforms(len(rows), generator)
        out = drive(self.walk(len(rows), told), Complete(x, known, Sample(noise)))
        weights = torch.zeros(len(rows), dtype=torch.float64, device=out.device)
        for _ in range(ROUNDS if bool(known.any()) and not bool(known.all()) else 0):
            out, weights = self.redrawn(out, known, told, generator)
        return resampled_by(weights.view(-1, proposals), out.unflatten(0, (-1, proposals)), generator)

    def redrawn(
        self, x: Tensor, known: Tensor, context: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return x with its unknown values drawn anew by way of the latents, and log p(known, z) - log q(z|x)."""
        noise = self.uniforms(len(x), generator)
        inferred = Infer(x, noise)
        state = self.inferred(x, context, inferred)
        source = Complete(x, known, Sample(noise))
        source.drawn = torch.ones_like(source.drawn)  # the latents are: whatever is known weighs
        out = drive(self.observed(len(x), state), source)
        return out, inferred.log_weight(source.log_late)


class Whole(Distribution):
    """p of a whole latent by a model of it.

    Args:
        model: continuous, of the shape of the latent.
        context: as that model was built for.
    """

    def __init__(self, model: Model, context: Tensor | None, temperature: float = 1.0) -> None:
        self.model, self.context, self.temperature = model, context, temperature

    def log_prob(self, v: Tensor) -> Tensor:
        if not bool(v.isfinite().all()):  # of a step that diverges, which training skips
            return v.new_full((len(v),), math.nan)
        return self.model.log_prob(v, self.context)

    def log_pmf(self) -> Tensor:
        raise ValueError("a continuous distribution has no log_pmf; use log_prob")

    def cdf(self, v: Tensor) -> Tensor:
        raise ValueError("a whole latent has no cdf; its factors have one, see the walk of its model")

    def draw(self, u: Tensor) -> Tensor:
        walk = self.model.walk(len(u), self.context)
        return drive(walk, Sample(u, self.temperature)).to(self.model.dtype).clone()

    def tempered(self, temperature: float) -> "Whole":
        return Whole(self.model, self.context, temperature)


def check_latents(latents: Mapping[int, Tensor], shapes: tuple[tuple[int, ...], ...], n: int) -> Mapping[int, Tensor]:
    """Return latents by level, or raise ValueError where one of them does not fit."""
    if not isinstance(latents, Mapping):
        raise ValueError(
            f"latents must be a dict of tensors by level, such as {{1: z}}, got a {type(latents).__name__}"
        )
    for level, z in latents.items():
        if level not in range(1, len(shapes) + 1):
            raise ValueError(f"latents must be of levels 1 to {len(shapes)}, got {level!r}")
        wanted = (n, *shapes[level - 1])
        if tuple(z.shape) != wanted:
            raise ValueError(f"latents[{level}] must have shape {wanted}, got {tuple(z.shape)}")
    return latents


def chosen_prior(prior: Model | None, network: Network, conditioner: nn.Module | None) -> Model | None:
    """Return a model of the top latent, in the place of what the network says of it; ValueError where it is none."""
    if prior is None:
        return None
    network.without_top()
    shape = network.shapes[-1]
    if not isinstance(prior, Model) or prior.likelihood.levels is not None or not prior.exact:
        raise ValueError(f"prior must be a continuous autoregressive model, got {type(prior).__name__}")
    if tuple(prior.shape) != shape:
        raise ValueError(f"prior must be of the shape of the top latent, {shape}, got {tuple(prior.shape)}")
    if prior.conditioner is not None and conditioner is None:
        raise ValueError("prior must not be conditional where the model is not")
    return prior
