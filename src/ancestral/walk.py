"""The walk: visit the factors of p(x) in order, be told the value of each, go on.

`drive` is the whole engine. A *walk* is a generator that yields `Factor`s and returns x; a *source* says the value of
a factor: a draw (`Sample`), what is known (`Complete`), what was observed (`Observe`), a latent inferred from x
(`Infer`). A source reads `factor.at`, `factor.p` and `factor.q`, never the model.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ancestral.causal import Cursor
from ancestral.causal.cursor import by_column
from ancestral.distributions import Distribution, Gaussian, Independent
from ancestral.likelihoods import Channels, Likelihood


class Factor(NamedTuple):
    """One factor of p(x): the distribution of the next value given those so far.

    Attributes:
        p: p(next | so far), for a batch.
        at: where the value goes: an index into one example, x[:, *at]; ("z", l) for latent level l.
        q: the posterior, for a latent factor of a walk that was given x.
    """

    p: Distribution | None
    at: tuple[Any, ...]
    q: Distribution | None = None


Walk = Generator[Factor, Tensor, Tensor]
Source = Callable[[Factor], Tensor]
Condition = Any  # Tensor | None, or a tuple of tensors: what a network makes of a context


class Joint(NamedTuple):
    """Values of x and of a model's latents, or uniforms for all of them.

    Attributes:
        x: (B, *shape).
        z: z_1, z_2, ..., each (B, *shape of that level).
    """

    x: Tensor
    z: tuple[Tensor, ...] = ()

    def at(self, at: tuple[Any, ...]) -> Tensor:
        """Return what is at the place of a factor."""
        return self.z[at[1] - 1] if is_latent(at) else self.x[:, *at]


def is_latent(at: tuple[Any, ...]) -> bool:
    """Return whether a factor at this place is a latent."""
    return bool(at) and isinstance(at[0], str)


def drive(walk: Walk, source: Source) -> Tensor:
    """Send the source's value of each factor back into the walk until it returns x."""
    try:
        factor = next(walk)
        while True:
            factor = walk.send(source(factor))
    except StopIteration as end:
        return end.value


class Sample:
    """Draws, by the inverse cdf of given uniforms: the same noise gives the same sample.

    Args:
        noise: uniforms in [0, 1), one for each value, (B, *shape); those of latents too where there are any.
        temperature: the pmf to the power 1 / T; 0 takes the mode.
    """

    def __init__(self, noise: Tensor | Joint, temperature: float = 1.0) -> None:
        self.noise, self.temperature = noise if isinstance(noise, Joint) else Joint(noise), temperature

    def __call__(self, factor: Factor) -> Tensor:
        return distribution(factor).tempered(self.temperature).draw(self.noise.at(factor.at))


class Fixed:
    """Given latents by level, and another source for everything else."""

    def __init__(self, z: Mapping[int, Tensor], otherwise: Source) -> None:
        self.z, self.otherwise = z, otherwise

    def __call__(self, factor: Factor) -> Tensor:
        given = is_latent(factor.at) and factor.at[1] in self.z
        return self.z[factor.at[1]] if given else self.otherwise(factor)


class Infer:
    """Latents drawn from their posteriors, in a walk that was given x; and x itself, where the walk comes to it.

    A posterior may come before its prior (a bottom-up walk visits every latent twice): the second visit is answered
    from memory.

    Args:
        x: (B, *shape).
        noise: uniforms of the draws; fresh ones by default.
        z: latents by level that are given, not drawn.

    Attributes:
        z: the latents by level, from 1.
        q: their posteriors.
        p: their priors.
        kl: KL(q || p) of each level, (B,) nats: in closed form where q and p depend on the same things, and at the
            top; elsewhere log q - log p of what was drawn.
        log_px: log p of each factor of x, (B,) nats each.
    """

    def __init__(self, x: Tensor, noise: Joint | None = None, z: Mapping[int, Tensor] | None = None) -> None:
        self.x, self.noise = x, noise
        self.z: dict[int, Tensor] = dict(z or {})
        self.q: dict[int, Distribution] = {}
        self.p: dict[int, Distribution] = {}
        self.kl: dict[int, Tensor] = {}
        self.log_px: list[Tensor] = []

    def __call__(self, factor: Factor) -> Tensor:
        if not is_latent(factor.at):
            value = self.x[:, *factor.at]
            self.log_px.append(distribution(factor).log_prob(value))
            return value
        level = factor.at[1]
        if factor.q is not None:
            self.q[level] = factor.q
            if level not in self.z:
                self.z[level] = factor.q.draw(self.uniforms(factor))
        if factor.p is not None:
            together = factor.q is not None or not self.p  # what is visited first from above has no parents
            self.kl[level] = divergence(self.q[level], factor.p, self.z[level], together)
            self.p[level] = factor.p
        return self.z[level]

    def uniforms(self, factor: Factor) -> Tensor:
        """Return what a draw of the posterior is made of."""
        if self.noise is not None:
            return self.noise.at(factor.at)
        assert isinstance(factor.q, Gaussian), "give noise: only of a Gaussian the shape is known"
        return torch.rand_like(factor.q.mean, dtype=torch.float64)

    def log_weight(self, log_px: Tensor) -> Tensor:
        """Return log p(x, z) - log q(z|x) of what was drawn, (B,) nats, given log p(x|z)."""
        for level, z in self.z.items():
            log_px = log_px + self.p[level].log_prob(z) - self.q[level].log_prob(z)
        return log_px


def divergence(q: Distribution, p: Distribution, z: Tensor, closed: bool) -> Tensor:
    """Return KL(q || p), (B,) nats: in closed form where there is one and it is wanted, else as a draw z has it."""
    if closed and isinstance(q, Gaussian) and isinstance(p, Gaussian):
        return q.kl(p).flatten(1).sum(1)
    return q.log_prob(z) - p.log_prob(z)


class Observe:
    """The observed values, adding up log p.

    Attributes:
        log_probs: log p of each factor in the order of the walk, (B,) nats each.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.log_probs: list[Tensor] = []

    def __call__(self, factor: Factor) -> Tensor:
        value = self.x[:, *factor.at]
        self.log_probs.append(distribution(factor).log_prob(value))
        return value

    def log_prob(self) -> Tensor:
        """Return log p(x), (B,) nats."""
        return torch.stack(self.log_probs).sum(0)


class Complete:
    """The known value where there is one, else that of another source, which latents come from too.

    Attributes:
        log_late: log-likelihood of the known values that were visited after an unknown one, (B,): what a draw in this
            order could not take into account.
        late: how many there were, (B,).
    """

    def __init__(self, x: Tensor, known: Tensor, otherwise: Source) -> None:
        self.x, self.known, self.otherwise = x, known, otherwise
        self.drawn = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.log_late = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        self.late = torch.zeros(len(x), dtype=torch.long, device=x.device)

    def __call__(self, factor: Factor) -> Tensor:
        if is_latent(factor.at):
            self.drawn = torch.ones_like(self.drawn)
            return self.otherwise(factor)
        known, value = self.known[:, *factor.at], self.x[:, *factor.at]
        late = known & self.drawn.view(-1, *(1,) * (known.dim() - 1))
        if bool(late.any()):
            self.late += summed(late)
            self.log_late += summed(torch.where(late, distribution(factor).log_probs(value).double(), 0))
        self.drawn = self.drawn | ~known.view(len(known), -1).all(1)
        return value if bool(known.all()) else torch.where(known, value, self.otherwise(factor).to(value.dtype))


def summed(values: Tensor) -> Tensor:
    """Return the sum over everything but the batch, (B, ...) to (B,)."""
    return values.view(len(values), -1).sum(1)


def distribution(factor: Factor) -> Distribution:
    """Return the factor's p, which every factor of an autoregressive model has."""
    assert factor.p is not None, f"the factor at {factor.at} has no p"
    return factor.p


class RasterNetwork(Protocol):
    """An image network with two clocks; `groups` channel groups make a third.

    `rows` runs once a row, for the whole row; `cols` once a pixel (and channel group). Both run on whole images when
    there is no cursor.
    """

    groups: int
    likelihood: Likelihood

    def rows(self, x: Tensor, condition: Condition, cursor: Cursor | None = None) -> Iterable[Tensor]:
        """Map rows above (B, C + 1, H, W) to features of the row, each (B, F, H, W).

        They come as `cols` takes them; where this is a generator the parallel pass holds one at a time.
        """

    def cols(self, x: Tensor, rows: Iterable[Tensor], cursor: Cursor | None = None) -> Tensor:
        """Map pixels on the left (B, C', H, W), and the row's features, to parameters (B, P, H, W).

        With a cursor: x (B, C'_g), features (B, F) of this pixel, parameters (B, P / groups).
        """


def with_ones(x: Tensor) -> Tensor:
    """Join a channel of ones, which tells pixels from padding."""
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)


def shift_down(x: Tensor) -> Tensor:
    """Give each row what is known when the row begins: the row above, (B, C, H, W)."""
    return torch.nn.functional.pad(x, (0, 0, 1, 0))[:, :, :-1]


def shift_right(x: Tensor) -> Tensor:
    """Give each pixel what is known when the pixel begins: the pixel on the left, (B, C, H, W)."""
    return torch.nn.functional.pad(x, (1, 0))[..., :-1]


def raster_forward(net: RasterNetwork, x: Tensor, condition: Condition) -> Tensor:
    """The parallel pass of an image network: scaled x (B, C, H, W) to parameters (B, P, H, W).

    Strict causality exists here and nowhere else: the input is shifted by one step of the walk, a row for `rows`, a
    pixel for `cols`; within a pixel a channel group is given the channel before it.
    """
    joined = with_ones(x)
    left = torch.cat([shift_right(joined), x[:, : net.groups - 1]], 1)
    return net.cols(left, net.rows(shift_down(joined), condition))


@torch.inference_mode()
def raster_walk(net: RasterNetwork, x: Tensor, condition: Condition) -> Walk:
    """Walk over an image in raster order: pixels row by row, and R, G, B within a pixel.

    Args:
        net: the network.
        x: where the values are written, (B, C, H, W), of the dtype that is returned.
        condition: projected context, (B, F, 1, 1) or (B, F, H, W), of the dtype of the network; or a tuple, one for
            each resolution, each of half the size of the one before.
    """
    cursor, above = Cursor(x.device, (x.shape[2], x.shape[3])), nothing_above(net, x)
    for row in range(x.shape[2]):
        yield from row_walk(net, x[:, :, row], above, row_of(condition, row), cursor, row)
    return x


def nothing_above(net: RasterNetwork, x: Tensor) -> Tensor:
    """Return what the first row of x (B, C, H, W) is given: (B, C + 1, 1, W) of padding."""
    dtype = next(p.dtype for p in net.parameters())  # type: ignore[attr-defined]
    return torch.zeros(x.shape[0], x.shape[1] + 1, 1, x.shape[3], dtype=dtype, device=x.device)


def row_walk(net: RasterNetwork, x: Tensor, above: Tensor, condition: Condition, cursor: Cursor, row: int) -> Walk:
    """Walk over the pixels of a row, and go on to the next one.

    Args:
        net: the network.
        x: where the values of the row are written, (B, C, W).
        above: the scaled row above, with its channel of ones, (B, C + 1, 1, W); this row is written over it.
        condition: of the row.
        cursor: at its first pixel.
        row: its number, for the places of the factors.
    """
    channels, width = x.shape[1:]
    features, sizes = by_column(net.rows(above, condition, cursor))
    above[:, channels] = 1
    pixel = torch.zeros_like(above[..., 0, 0], memory_format=torch.contiguous_format)
    for col in range(width):
        here = features.index_select(0, cursor.col)[0].split(sizes, 1)
        known = pixel
        for group in range(net.groups):
            cursor.group = group
            params = net.cols(known, here, cursor)
            heads = net.likelihood.walk(params, channels // net.groups)
            known = yield from factors(heads, ((c, row, col) for c in range(group, channels)))
            x[:, group : group + known.shape[1], col] = known
            known = net.likelihood.scale(known).to(above.dtype)
            above[:, group : group + known.shape[1], 0, col] = known
        pixel = above[..., 0, col].contiguous()
        cursor.next_col()
    cursor.next_row()
    return x


def row_of(condition: Condition, row: int) -> Condition:
    """Return one row of a map; what is the same everywhere stays as it is."""
    if isinstance(condition, tuple):
        return tuple(row_of(each, row >> level) for level, each in enumerate(condition))
    return condition if condition is None or condition.shape[2] == 1 else condition[:, :, row : row + 1]


def factors(heads: Channels, places: Iterable[tuple[int, ...]]) -> Walk:
    """Turn the distributions of a position's channels into factors at these places; returns their values (B, C)."""
    try:
        p = next(heads)
        for at in places:
            p = heads.send((yield Factor(p, at)))
    except StopIteration as end:
        return end.value
    raise AssertionError("a position has more channels than places")


def map_factors(likelihood: Likelihood, params: Tensor, shape: tuple[int, ...]) -> Walk:
    """Walk over x when all its positions are independent given the latents: one factor for each channel.

    Args:
        likelihood: of a position.
        params: its parameters (B, P, *positions).
        shape: of an example: (C, *positions), or (D,), which is a single channel at ().

    Returns:
        x (B, *shape).
    """
    channels, positions = (1 if len(shape) == 1 else shape[0]), tuple(params.shape[2:])
    heads = likelihood.walk(params.flatten(2).transpose(1, 2).flatten(0, 1), channels)
    p = next(heads)
    try:
        for at in [()] if len(shape) == 1 else [(c,) for c in range(channels)]:
            value = yield Factor(Independent(p, positions), at)
            p = heads.send(value.flatten())
    except StopIteration as end:
        flat: Tensor = end.value
        return flat.view(-1, *positions, channels).movedim(-1, 1).reshape(-1, *shape)
    raise AssertionError("a position has more channels than places")


class SequenceNetwork(Protocol):
    """A network over time: one clock. The head couples the channels of a step."""

    likelihood: Likelihood

    def steps(self, x: Tensor, told: Tensor | None, cursor: Cursor | None = None) -> Tensor:
        """Map shifted x (B, C + 1, T) to parameters (B, P, T), told features (B, F, 1) or (B, F, T), or nothing.

        With a cursor one step, (B, C + 1) to (B, P), told what `offsets` says; or all steps from the first one on.
        """

    def offsets(self, features: Tensor) -> Tensor:
        """Return what the layers add in a step that is told features (B, F)."""


def sequence_forward(net: SequenceNetwork, x: Tensor, features: Tensor | None, cursor: Cursor | None = None) -> Tensor:
    """The parallel pass of a network over time: scaled x (B, C, T) to parameters (B, P, T).

    Strict causality exists here and in `known_before`, and nowhere else: the input is shifted by one step.
    """
    return net.steps(shift_right(with_ones(x)), features, cursor)


class Told:
    """What a network is told in each step: the same in all of them, which is computed once, or of each step its own.

    Args:
        net: of one clock.
        features: (B, F, 1) or (B, F, T) of a context, or None.
    """

    def __init__(self, net: SequenceNetwork, features: Tensor | None) -> None:
        self.net, self.features = net, features
        self.constant = features is None or features.shape[2] == 1
        self.offsets = net.offsets(features[:, :, 0]) if features is not None and self.constant else None

    def at(self, t: int) -> Tensor | None:
        """Return what step t is told."""
        return self.offsets if self.constant or self.features is None else self.net.offsets(self.features[:, :, t])


@torch.inference_mode()
def sequence_walk(net: SequenceNetwork, x: Tensor, features: Tensor | None) -> Walk:
    """Walk over a sequence in time, channels one after another within a step; x (B, C, T) is written and returned.

    Args:
        net: the network.
        x: where the values are written, of the dtype that is returned.
        features: (B, F, 1) or (B, F, T) of a context, of the dtype of the network.
    """
    channels, length = x.shape[1:]
    cursor, told = Cursor(x.device), Told(net, features)
    before = nothing_before(net, x)
    for t in range(length):
        params = net.steps(before, told.at(t), cursor)
        x[:, :, t] = yield from factors(net.likelihood.walk(params, channels), ((c, t) for c in range(channels)))
        before = known_before(net, x[:, :, t], before.dtype)
        cursor.next_steps(1)
    return x


def nothing_before(net: SequenceNetwork, x: Tensor) -> Tensor:
    """Return what the first step of x (B, C, T) is given: (B, C + 1) of padding."""
    dtype = next(p.dtype for p in net.parameters())  # type: ignore[attr-defined]
    return torch.zeros(x.shape[0], x.shape[1] + 1, dtype=dtype, device=x.device)


def known_before(net: SequenceNetwork, value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what a step is given of the values (B, C) before it: (B, C + 1)."""
    return with_ones(net.likelihood.scale(value).to(dtype))
