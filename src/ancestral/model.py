"""What every model of the library is: an exact or bounded log-likelihood, and a walk over its factors."""

import logging
from abc import ABC, abstractmethod
from itertools import product
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ancestral.likelihoods import Likelihood, check_count
from ancestral.recorded import Recorded
from ancestral.walk import Complete, Factor, Sample, Walk, drive, map_factors

__all__ = ["Factor", "Model"]
log = logging.getLogger("ancestral")


class Model(Recorded, nn.Module, ABC):
    """A likelihood model of x, perhaps given a context.

    Attributes:
        shape: one example as trained: (C, H, W), (C, T) or (D,).
        likelihood: how parameters become probabilities.
        exact: True where `log_prob` is the log-likelihood, False where it is a lower bound on it.
        reach: of a model of sequences, how many steps before a value its distribution depends on.
        conditioner: what turns a context into features; None for an unconditional model.
        arguments: the constructor's arguments, which are the model's whole configuration.

    Data are levels in [0, K), of any integer dtype or floats that hold integers; continuous models take floats.
    """

    shape: tuple[int, ...]
    likelihood: Likelihood
    conditioner: nn.Module | None
    exact = True
    reach: int = 0

    def log_probs(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return log p of each value given those before it, (B, *shape) nats; the sum is `log_prob`.

        Raises:
            ValueError: the model has latent variables, which tie all values together.
        """
        raise ValueError(f"{type(self).__name__} has latent variables: log_prob bounds all values together, none alone")

    @abstractmethod
    def walk(
        self,
        batch: int,
        context: Tensor | None = None,
        x: Tensor | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Walk:
        """Yield the factors in order for a batch, receive their values (B,), return x (B, *shape).

        x is for latent-variable models, whose factors then carry their posteriors.
        """

    def places(self, shape: tuple[int, ...] | None = None) -> list[tuple[int, ...]]:
        """Return where the factors of x go, in the order of the walk: positions in raster order, channels within.

        Args:
            shape: of an example, where the model takes any; `self.shape` by default.
        """
        channels, *sizes = self.shape if shape is None else shape
        return [(c, *position) for position in product(*map(range, sizes)) for c in range(channels)]

    def parallel(self, x: Tensor, context: Tensor | None = None) -> Walk:
        """Yield the factors of x given x itself, by one parallel pass: one for each channel, of all positions."""
        return map_factors(self.likelihood, self(x, context), tuple(x.shape[1:]))

    @abstractmethod
    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which variables the paper's network sees at position `at`: bool, like one example."""

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, *, counted: Tensor | None = None, **choice: Any
    ) -> Tensor:
        """Return log p(x), or a lower bound on it where not `exact`: (B,) nats, differentiable.

        Args:
            x: (B, *shape).
            context: as the model was built for.
            counted: bool, broadcast to x: the values whose log p is added, all by default. The others are there to be
                depended on, such as the past of a window (`data.Recordings`).
            **choice: what the model lets one choose, such as the mask of a MADE.

        Raises:
            ValueError: x has another shape, or values outside the model's levels; the context does not fit.
        """
        terms = self.log_probs(x, context, **choice)
        return (terms if counted is None else torch.where(counted, terms, 0)).flatten(1).sum(1)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set parameters by a batch of data, before training, where the paper has such an initialisation."""

    def resampled(self, step: int) -> dict[str, Any]:
        """Return the arguments of `log_prob` that training changes from step to step (the masks of MADE)."""
        return {}

    def sample(
        self,
        n: int,
        context: Tensor | int | None = None,
        *,
        shape: tuple[int, ...] | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw n examples, at the price of about one parallel pass.

        Args:
            n: how many.
            context: as the model was built for, one for each example or one for all.
            shape: of an example, where the model takes any; `self.shape` by default.
            temperature: T; each factor's pmf to the power 1 / T, renormalised, 0 for the mode.
            generator: of the uniforms, one for each value.

        Returns:
            What `log_prob` takes: (n, *shape), int64 levels or floats.
        """
        context = self.check_context(context, n)
        noise = self.noise(n, shape or self.shape, generator)
        return drive(self.walk(n, context, shape=shape), Sample(noise, temperature))

    def complete(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | int | None = None,
        *,
        proposals: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw the unknown values of x given the known ones.

        The order is fixed: a draw takes account of the known values before it. Where known values come after unknown
        ones, one proposal ignores them (and a warning says so); more proposals are drawn, and one of them chosen by
        the likelihood of those later known values (sampling importance resampling; the effective sample size is
        logged).

        Args:
            x: (B, *shape); what it holds where it is not known does not matter.
            known: bool, like x.
            context: as the model was built for.
            proposals: how many to choose from for each example.
            generator: of the uniforms.
        """
        check_count("proposals", proposals, 1)
        self.check_known(x, known)
        x = torch.where(known, x, torch.zeros_like(x))
        self.check(x)
        rows = torch.arange(len(x), device=x.device).repeat_interleave(proposals)
        context = self.check_context(context, len(x))
        noise = self.noise(len(rows), tuple(x.shape[1:]), generator)
        source = Complete(x[rows], known[rows], Sample(noise))
        walk = self.walk(len(rows), None if context is None else context[rows], shape=tuple(x.shape[1:]))
        out = drive(walk, source)
        return chosen(source, out.unflatten(0, (-1, proposals)), generator)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into a folder; see `checkpoint.save_pretrained`."""
        from ancestral import checkpoint

        checkpoint.save_pretrained(self, folder)

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, *, revision: str | None = None) -> Self:
        """Return a model from a folder or the Hugging Face hub; see `checkpoint.from_pretrained`."""
        from ancestral import checkpoint

        model = checkpoint.from_pretrained(name_or_folder, cls, revision=revision)
        assert isinstance(model, cls)
        return model

    def push_to_hub(self, repo_id: str, *, private: bool | None = None) -> str:
        """Upload the model to the Hugging Face hub; see `checkpoint.push_to_hub`."""
        from ancestral import checkpoint

        return checkpoint.push_to_hub(self, repo_id, private=private)

    def noise(self, n: int, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Return uniforms in [0, 1), one for each value of n examples: float64, on the device of the model."""
        device = generator.device if generator is not None else self.device
        return torch.rand(n, *shape, generator=generator, dtype=torch.float64, device=device).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return next(self.parameters()).dtype

    def empty(self, batch: int, shape: tuple[int, ...]) -> Tensor:
        """Return zeros to write a walk's values into."""
        dtype = torch.promote_types(self.dtype, torch.float32) if self.likelihood.levels is None else torch.long
        return torch.zeros(batch, *shape, dtype=dtype, device=self.device)

    def check(self, x: Tensor) -> Tensor:
        """Return x, or raise ValueError where its values are not what the likelihood describes."""
        if torch.compiler.is_compiling() or not x.numel():
            return x
        levels = self.likelihood.levels
        if x.is_floating_point() and not bool(x.isfinite().all()):
            raise ValueError("x must be finite, got NaN or infinity")
        if levels is None:
            if not x.is_floating_point():
                raise ValueError(f"x must be floating-point for {self.likelihood}, got {x.dtype}")
            return x
        wide = x if x.is_floating_point() else x.long()  # unsigned types of more than 8 bits have no min
        low, high = wide.min().item(), wide.max().item()
        if low < 0 or high >= levels:
            raise ValueError(f"x must hold levels from 0 to {levels - 1}, got values from {low:g} to {high:g}")
        if x.is_floating_point() and not bool((x == x.round()).all()):
            raise ValueError(f"x must hold whole levels from 0 to {levels - 1}, got fractions; do not scale the data")
        return x

    def check_known(self, x: Tensor, known: Tensor) -> None:
        """Raise ValueError unless known is a bool tensor like x."""
        if known.shape != x.shape or known.dtype != torch.bool:
            got = f"{known.dtype} {tuple(known.shape)}"
            raise ValueError(f"known must be a bool tensor of the shape of x, {tuple(x.shape)}, got {got}")

    def check_context(self, context: Tensor | int | None, batch: int) -> Tensor | None:
        """Return the context on the model's device, one for each example; raise ValueError where it does not fit."""
        if (context is None) != (self.conditioner is None):
            wanted = "none: the model is unconditional" if self.conditioner is None else "one for each example"
            raise ValueError(f"context must be {wanted}, got {'nothing' if context is None else 'one'}")
        if context is None:
            return None
        context = torch.as_tensor(context, device=self.device)
        if context.dim() == 0 or (context.dim() == 1 and context.is_floating_point()):  # one for all
            context = context.expand(batch, *context.shape)
        if len(context) != batch:
            raise ValueError(f"context must hold {batch} examples, got {len(context)}")
        return context


def chosen(source: Complete, out: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return one of the proposals (B, N, *shape) of each example, and log what it takes into account."""
    late, several = bool(source.late.any()), out.shape[1] > 1
    if late and several:
        return resampled_by(source.log_late.view(out.shape[:2]), out, generator)
    if late:
        log.warning(
            "complete: known values that come after unknown ones in the order of the model were kept but not taken "
            "into account; proposals=N chooses among N completions by their likelihood"
        )
    if several:
        log.warning("complete: nothing is known after what is drawn: proposals change nothing")
    return out[:, 0]


def resampled_by(log_weights: Tensor, out: Tensor, generator: torch.Generator | None) -> Tensor:
    """Choose one of the proposals (B, N, *shape) of each example by log-weights (B, N), and log how good they are."""
    if out.shape[1] == 1:
        return out[:, 0]
    weights = log_weights.softmax(1)
    effective = 1 / weights.square().sum(1)
    log.info("complete: effective sample size %.1f of %d proposals (mean)", effective.mean(), out.shape[1])
    device = generator.device if generator is not None else weights.device
    chosen = torch.multinomial(weights.to(device), 1, generator=generator).to(out.device).squeeze(1)
    return out[torch.arange(len(out), device=out.device), chosen]
