"""MADE: "Masked Autoencoder for Distribution Estimation", Germain et al. 2015, arXiv 1502.03509.

A fully connected network whose masks let the output for variable d see only the variables before d in an order:

    h = relu(b + (W . M_W) x),     parameters = c + (V . M_V) h + (A . M_A) x          (equations 8, 9; section 4.4)

One network can be trained under many orders and connectivities, from a cycle of masks that are redrawn from a seed and
never stored. The clock of its walk is the degree: hidden units are sorted by degree once, and when variable t becomes
known, the slice of units of degree t + 1 is final and is computed, once.
"""

import logging
import math
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal.linear import Degrees, MaskedLinear, draw_degrees
from ancestral.conditioning import chosen_conditioner, features_of
from ancestral.likelihoods import Bernoulli, Categorical, Likelihood, check_count, check_likelihood
from ancestral.model import Model
from ancestral.walk import Complete, Sample, Walk, drive, factors, map_factors

log = logging.getLogger("ancestral")

LAST_GAIN = 0.1  # of what reaches the output: a new network takes all values for about equally likely


class MADE(Model):
    """MADE over the columns of a table, or over the values of a flattened image.

    Binary variables go in as 0 and 1, as in the paper; categorical ones one-hot, because their levels have no order;
    levels of a discretized mixture and continuous values as one number each.

    Args:
        shape: (D,), or any shape, which is flattened.
        likelihood: of each variable.
        hidden: units of each hidden layer.
        masks: how many masks training cycles through, one a step (section 4.3); None for new ones without end.
        order_agnostic: whether every mask has its own order of the variables (section 4.2).
        connectivity_agnostic: whether every mask has its own connections (section 4.3).
        direct: connections from inputs to outputs.
        conditioning_weights: tell units which of their inputs are masked, by (U . M) 1 (section 4.3).
        classes: number of classes, for a class-conditional model.
        conditioner: what turns another context into features (B, F), instead of `classes`.
        seed: of the masks.

    Raises:
        ValueError: an argument is out of range, or several masks are asked for where nothing would differ.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        likelihood: Likelihood = Bernoulli(),  # noqa: B008 (a frozen value)
        hidden: tuple[int, ...] = (500,),
        masks: int | None = 1,
        order_agnostic: bool = False,
        connectivity_agnostic: bool = False,
        direct: bool = False,
        conditioning_weights: bool = False,
        classes: int | None = None,
        conditioner: nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, sizes in {"shape": shape, "hidden": hidden}.items():
            if not isinstance(sizes, tuple | list):
                raise ValueError(f"{name} must be a tuple of integers, got {sizes!r}")
            for size in sizes:
                check_count(name, size, 1)
        if masks is not None:
            check_count("masks", masks, 1)
        if masks != 1 and not (order_agnostic or connectivity_agnostic):
            raise ValueError(
                f"masks={masks} needs order_agnostic=True or connectivity_agnostic=True: all would be alike"
            )
        self.shape, self.likelihood, self.hidden = tuple(shape), check_likelihood(likelihood), tuple(hidden)
        self.variables = math.prod(shape)
        self.masks, self.seed = masks, seed
        self.order_agnostic, self.connectivity_agnostic = order_agnostic, connectivity_agnostic
        self.inputs = likelihood.levels if isinstance(likelihood, Categorical) else 1
        self.outputs = likelihood.features(1)
        self.conditioner = chosen_conditioner(classes, conditioner)
        widths = [self.variables * self.inputs, *hidden, self.variables * self.outputs]
        gains = [1.0] * len(hidden) + [LAST_GAIN]
        self.layers = nn.ModuleList(
            MaskedLinear(into, out, conditioning_weights, gain)
            for (into, out), gain in zip(pairwise(widths), gains, strict=True)
        )
        self.direct = MaskedLinear(widths[0], widths[-1], gain=LAST_GAIN) if direct else None
        features = features_of(self.conditioner)
        self.condition = nn.Linear(features, sum(widths[1:]), bias=False) if features else None
        self._last: tuple[Any, ...] = ()  # the masks used last, which one-mask models use again and again

    def degrees(self, mask: int | Degrees = 0) -> Degrees:
        """Return the order and degrees of the mask of that number, drawn anew from the seed."""
        if isinstance(mask, Degrees):
            return mask
        number = mask if self.masks is None else mask % self.masks
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        order = torch.arange(self.variables)
        if self.order_agnostic:
            order = torch.randperm(self.variables, generator=generator)
        if not self.connectivity_agnostic:
            generator.manual_seed(self.seed * 1_000_003)
        return draw_degrees(order, self.hidden, generator)

    def resampled(self, step: int) -> dict[str, Any]:
        return {} if self.masks == 1 else {"mask": step}

    def connections(self, mask: int | Degrees) -> tuple[list[Tensor], Tensor]:
        """Return the masks of all layers and of the direct connections, as the weights that they multiply."""
        kind = (self.device, self.dtype)
        if isinstance(mask, int) and self._last[:2] == (mask, kind):
            return self._last[2]
        degrees = self.degrees(mask)
        masks = [m.to(*kind) for m in degrees.masks(self.inputs, self.outputs)]
        made = masks, degrees.direct(self.inputs, self.outputs).to(*kind)
        if isinstance(mask, int):
            self._last = (mask, kind, made)
        return made

    def encoded(self, x: Tensor) -> Tensor:
        """Return values (B, n) as network inputs (B, n * inputs)."""
        if isinstance(self.likelihood, Categorical):
            return F.one_hot(x.long(), self.inputs).flatten(1).to(self.dtype)
        return (x if self.likelihood.levels == 2 else self.likelihood.scale(x)).to(self.dtype)

    def conditions(self, context: Tensor | None, batch: int) -> list[Tensor | float]:
        """Return what each layer adds for a context, (B, out) each."""
        context = self.check_context(context, batch)
        if self.conditioner is None or self.condition is None:
            return [0.0] * len(self.layers)
        features = self.conditioner(context).to(self.dtype)
        if features.dim() != 2:
            raise ValueError(f"conditioner must give vectors (B, F) to a MADE, got {tuple(features.shape)}")
        return list(self.condition(features).split([*self.hidden, self.variables * self.outputs], 1))

    def forward(self, x: Tensor, context: Tensor | None = None, mask: int | Degrees = 0) -> Tensor:
        """Map values (B, *shape) to the likelihood's parameters (B, P, D), in one parallel pass."""
        masks, direct = self.connections(mask)
        given = h = self.encoded(x.flatten(1))
        for layer, m, extra in zip(self.layers, masks, self.conditions(context, len(x)), strict=True):
            h = layer(F.relu(h) if h is not given else given, m) + extra
        if self.direct is not None:
            h = h + self.direct(given, direct)
        return h.unflatten(1, (self.variables, self.outputs)).transpose(1, 2)

    def log_probs(self, x: Tensor, context: Tensor | None = None, mask: int | Degrees = 0) -> Tensor:
        """Return log p of each variable given those before it under one mask, (B, *shape) nats."""
        self.check_shape(x.shape[1:])
        params = self(self.check(x), context, mask)
        return self.likelihood.log_probs(params, x.flatten(1)[:, None]).view(x.shape)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError where an example has another shape than the model: a MADE has one size."""
        if tuple(shape) != self.shape:
            raise ValueError(
                f"x must have shape (B, {', '.join(map(str, self.shape))}), got examples of {tuple(shape)}"
            )

    def walk(
        self,
        batch: int,
        context: Tensor | None = None,
        x: Tensor | None = None,
        shape: tuple[int, ...] | None = None,
        mask: int | Degrees = 0,
    ) -> Walk:
        """Yield the factors in the order of a mask; see `Model.walk`."""
        self.check_shape(shape or self.shape)
        with torch.no_grad():
            return self._walk(self.empty(batch, self.shape), self.conditions(context, batch), self.degrees(mask))

    @torch.no_grad()
    def _walk(self, x: Tensor, conditions: list[Tensor | float], degrees: Degrees) -> Walk:
        pass_ = DegreePass(self, degrees, conditions, len(x))
        for t, at in enumerate(places_of(degrees, self.shape)):
            value = yield from factors(self.likelihood.walk(pass_.params(t), 1), [at])
            x[:, *at] = value[:, 0]
            pass_.know(t, self.encoded(value))
        return x

    def places(self, shape: tuple[int, ...] | None = None) -> list[tuple[int, ...]]:
        """Return where the factors go, in the order of mask 0; see `Model.places`."""
        self.check_shape(shape or self.shape)
        return places_of(self.degrees(0), self.shape)

    def parallel(self, x: Tensor, context: Tensor | None = None) -> Walk:
        """Yield all factors of x as one, given x itself; see `Model.parallel`."""
        self.check_shape(x.shape[1:])
        return map_factors(self.likelihood, self(x, context), (self.variables,))

    def complete(
        self,
        x: Tensor,
        known: Tensor,
        context: Tensor | int | None = None,
        *,
        proposals: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw the unknown values of x given the known ones; exact where the model is order-agnostic.

        Then examples are grouped by equal masks and each group is completed in an order with the known variables
        first; with more than one proposal, as by any model. From a finite list of trained orders that is one of the
        list where one fits; else the order is one the network was not trained on, and a warning says so.
        """
        if not self.order_agnostic or proposals != 1:
            return super().complete(x, known, context, proposals=proposals, generator=generator)
        self.check_known(x, known)
        self.check_shape(x.shape[1:])
        context = self.check_context(context, len(x))
        out = self.empty(len(x), self.shape)
        patterns, group = known.flatten(1).unique(dim=0, return_inverse=True)
        for g, pattern in enumerate(patterns):
            rows = (group == g).nonzero().squeeze(1)
            mine = None if context is None else context[rows]
            out[rows] = self._complete(x[rows], known[rows], mine, self._order_for(pattern.cpu()), generator)
        return out

    def _complete(
        self, x: Tensor, known: Tensor, context: Tensor | None, mask: Degrees, generator: torch.Generator | None
    ) -> Tensor:
        x = self.check(torch.where(known, x, torch.zeros_like(x)))
        source = Complete(x, known, Sample(self.noise(len(x), self.shape, generator)))
        return drive(self.walk(len(x), context, mask=mask), source)

    def _order_for(self, known: Tensor) -> Degrees:
        """Return degrees whose order has the known variables (D,) first, a trained one where there is one."""
        for number in range(self.masks or 0):
            degrees = self.degrees(number)
            if bool((degrees.order[known] < int(known.sum())).all()):
                return degrees
        if self.masks is not None:
            log.warning(
                "complete: none of the %d trained orders has the known variables first; this one is untrained "
                "(train with masks=null for every order)",
                self.masks,
            )
        order = self.degrees(0).order
        order = (order + len(order) * ~known).argsort().argsort()
        return Degrees(order, self.degrees(0).hidden)

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which variables the network of mask 0 sees at `at`: those before it that a path connects."""
        seen = torch.zeros(1, self.variables)
        seen[0, int(torch.arange(self.variables).view(self.shape)[at])] = 1
        own, degrees = seen.bool(), self.degrees(0)
        for mask in reversed(degrees.masks()):
            seen = (seen @ mask.float()).clamp(max=1)
        field = seen.bool() | (own.float() @ degrees.direct().float()).bool() if self.direct else seen.bool()
        return field.view(self.shape)


class DegreePass:
    """The forward pass of one walk, spread over its steps: each multiply-add is done once, when its input is final.

    Units are sorted by degree, variables by their place in the order. `sums[l]` holds what layer l has received so
    far; `ends[l][t]` says how many of its units have a degree of at most t.
    """

    def __init__(self, model: MADE, degrees: Degrees, conditions: list[Tensor | float], batch: int) -> None:
        self.inputs, self.outputs = model.inputs, model.outputs
        layers = cast(list[MaskedLinear], list(model.layers))
        order = degrees.order.argsort()
        sorts = [spread(order, model.inputs), *(d.argsort() for d in degrees.hidden), spread(order, model.outputs)]
        sorts = [s.to(model.device) for s in sorts]
        self.weights = [  # (in, out): rows are inputs, so that a step reads contiguous rows
            layer.weight[out][:, into].t().contiguous()
            for layer, (into, out) in zip(layers, pairwise(sorts), strict=True)
        ]
        steps = torch.arange(model.variables + 1)
        self.ends = [torch.searchsorted(d.sort().values, steps, right=True).tolist() for d in degrees.hidden]
        self.ends.append([t * model.outputs for t in steps.tolist()])
        masks, _ = model.connections(degrees)
        self.sums = [
            ((layer.offset(mask) + extra).expand(batch, -1))[:, out].clone()
            for layer, mask, extra, out in zip(layers, masks, conditions, sorts[1:], strict=True)
        ]
        self.direct: Tensor | None = None
        if model.direct is not None:
            self.direct = model.direct.weight[sorts[-1]][:, sorts[0]].t().contiguous()
            self.sums[-1] += model.direct.bias[sorts[-1]]
        self.finish(0)

    def params(self, t: int) -> Tensor:
        """Return the parameters (B, P) of the variable at place t, which are final when t variables are known."""
        return self.sums[-1][:, t * self.outputs : (t + 1) * self.outputs]

    def know(self, t: int, value: Tensor) -> None:
        """Take in the variable at place t, encoded (B, inputs)."""
        rows = slice(t * self.inputs, (t + 1) * self.inputs)
        begin = self.begin(0, t + 1)
        self.sums[0][:, begin:] += value @ self.weights[0][rows, begin:]
        if self.direct is not None:
            later = (t + 1) * self.outputs
            self.sums[-1][:, later:] += value @ self.direct[rows, later:]
        self.finish(t + 1)

    def finish(self, degree: int) -> None:
        """Pass on the units of this degree, which have received all they will."""
        for layer in range(len(self.sums) - 1):
            units = slice(self.begin(layer, degree), self.ends[layer][degree])
            if units.start == units.stop:
                continue
            begin = self.begin(layer + 1, degree)
            final = F.relu(self.sums[layer][:, units])
            self.sums[layer + 1][:, begin:] += final @ self.weights[layer + 1][units, begin:]

    def begin(self, layer: int, degree: int) -> int:
        """Return where the units begin that may see inputs or units of this degree."""
        if layer == len(self.sums) - 1:  # outputs see strictly smaller degrees
            return self.ends[layer][degree]
        return self.ends[layer][degree - 1] if degree > 0 else 0


def places_of(degrees: Degrees, shape: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """Return where the variables of an example go, in the order of their degrees."""
    index = torch.unravel_index(degrees.order.argsort(), shape)
    return list(zip(*(each.tolist() for each in index), strict=True))


def spread(order: Tensor, width: int) -> Tensor:
    """Return the indices of variables in an order, when each has `width` consecutive places."""
    return (order[:, None] * width + torch.arange(width)).flatten()
