"""The checks of the contract for models with latent variables, which have no `log_probs`, but weights and a bound."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ancestral.distributions import Discrete, Gaussian
from ancestral.model import Model
from ancestral.models.latent import LatentVariables
from ancestral.testing.instances import (
    STATES,
    NotApplicable,
    evaluating,
    every_x,
    few_levels,
    odd_shapes,
    random_context,
    random_x,
    rebuilt,
    tiny_space,
    trained,
)
from ancestral.walk import Factor, Infer, Joint, Sample, drive, is_latent

WIDER = (1.0, 1.6, 2.6)  # times the standard deviation of a posterior: weights vary little where it is too narrow too
SURE = 5.0  # standard errors that chance does not explain
CLOSE = 0.01  # the standard error of a sum of probabilities, at most where it can be had
LARGEST = 28  # bits of a space that is drawn from
DRAWS, ROUNDS = 16, 32  # of the latents of all x of a tiny space at once, and how often at most
ROWS = 2**17  # of x and latents, where log p(x) is computed


def small_of(model: Model, shape: tuple[int, ...] | None = None, **changes: Any) -> LatentVariables:
    """Build a small instance; see `rebuilt`."""
    small = rebuilt(model, shape or odd_shapes(model)[0], **changes)
    assert isinstance(small, LatentVariables)
    return small


def repeated_context(model: Model, batch: int, times: int) -> tuple[Tensor | None, Tensor | None]:
    """Return a random context of a batch, and that of several copies of it, one after another."""
    context = random_context(model, batch)
    return context, None if context is None else context.repeat(times, *(1,) * (context.dim() - 1))


def is_unbiased(model: Model) -> str:
    """2. The importance weights of all x of a tiny space add up to one, in the mean over latents."""
    if model.likelihood.levels is None:
        raise NotApplicable("a continuous space has no list of all points; the order of bounds is checked instead")
    small, worst = tiny_space(model), 0.0
    if (bits := math.prod(small.shape) * math.log2(small.likelihood.levels or 1)) > LARGEST:
        raise NotApplicable(
            f"its layers take no smaller x than {small.shape}, which can be 2^{bits:.0f} different ones"
        )
    for instance in (small, trained(small)):
        assert isinstance(instance, LatentVariables)
        total, error = total_weight(instance)
        assert error < 5 * CLOSE, f"the weights vary too much to tell: the sum is {total:.3f} +- {error:.3f}"
        assert abs(total - 1) < SURE * error + 1e-6, f"shape {small.shape}: the sum is {total:.4f} +- {error:.4f}"
        worst = max(worst, error)
    return f"weights p(x, z) / q(z|x) of all x of shape {small.shape} add up to 1 within {worst:.4f} (standard error)"


@torch.no_grad()
def total_weight(model: LatentVariables) -> tuple[float, float]:
    """Return the sum of the mean weights of all x, and its standard error.

    A space that is too large is drawn from: every x with the same probability.
    """
    levels = model.likelihood.levels or 0
    points = levels ** math.prod(model.shape)
    few = points <= STATES
    context, sums = random_context(model, 1), torch.zeros(0, dtype=torch.float64)
    for done in range(1, ROUNDS + 1):
        x = every_x(levels, model.shape) if few else random_x(model, STATES)
        contexts = None if context is None else context.expand(len(x), *context.shape[1:])
        noise, ratio = wide_noise(model, DRAWS * len(x))
        log_w = model.log_weights(x, contexts, DRAWS, noise=noise).double() + ratio.view(DRAWS, -1)
        sums = torch.cat([sums, log_w.exp().sum(1) if few else log_w.exp().flatten() * points])
        mean, error = mean_of(sums)
        if error < CLOSE and done in (8, 16):  # looked at now and then: it is small by chance where a sum is too
            break
    return mean, error


def wide_noise(model: LatentVariables, n: int) -> tuple[Joint, Tensor]:
    """Return uniforms that reach farther out than uniform ones, and log(1 / their density), (n,)."""
    scales = torch.tensor(WIDER, dtype=torch.float64)
    mine = scales[torch.randint(len(scales), (n,))]
    scores = [torch.randn_like(u) * mine.view(-1, *(1,) * (u.dim() - 1)) for u in model.uniforms(n).z]
    flat = torch.cat([s.flatten(1) for s in scores], 1)
    far = flat.square().sum(1, keepdim=True) * (1 - 1 / scales.square()) / 2 - flat.shape[1] * scales.log()
    ratio = math.log(len(scales)) - far.logsumexp(1)  # of densities: of the mixture of scales under that of scale one
    return Joint(torch.empty(0), tuple(torch.special.ndtr(s) for s in scores)), ratio


def walked_is_parallel(model: Model) -> str:
    """3. Given x, the walk gives the weights and divergences of the parallel pass; its places are in order."""
    worst = 0.0
    for shape in odd_shapes(model):
        worst = max(worst, difference(small_of(model, shape)))
        assert worst < 1e-9, f"shape {shape}: they differ by {worst:.1e} nats in float64"
    assert isinstance(model, LatentVariables)
    with evaluating(model):
        own = difference(model)
    assert own < 1e-2, f"in this model they differ by {own:.1e} nats"
    return f"weights, log p(x|z) and divergences within {worst:.1e} nats in float64; this model, {own:.1e}"


@torch.no_grad()
def difference(model: LatentVariables, batch: int = 3, times: int = 2) -> float:
    """Return by how much the walk and the parallel pass differ at most, in nats, for several draws of each x."""
    x = random_x(model, batch).to(model.device)
    x = x.to(model.dtype) if x.is_floating_point() else x
    (context, contexts), noise = repeated_context(model, batch, times), model.uniforms(times * batch)
    several = x.repeat(times, *(1,) * len(model.shape))
    source, visited = Infer(several, noise), Visited()
    drive(model.walk(times * batch, context, x=x), visited.then(source))
    check_order(visited.factors, len(model.levels))
    drive(model.walk(times * batch, contexts), (sampled := Visited()).then(Sample(noise)))
    places = [factor.at for factor in sampled.factors]
    assert places[: len(model.levels)] == [("z", level) for level in reversed(model.levels)], f"it visits {places}"
    log_px = torch.stack(source.log_px).sum(0)
    weights = model.log_weights(x, context, times, noise=noise).flatten()
    terms = model.terms(several, contexts, noise=noise)
    walked_kl = torch.stack([source.kl[level] for level in model.levels], 1)
    gaps = (source.log_weight(log_px) - weights, log_px - terms.log_px, walked_kl - terms.kl)
    return max(gap.abs().max().item() for gap in gaps)


class Visited:
    """The factors that a walk visits, while another source answers."""

    def __init__(self) -> None:
        self.factors: list[Factor] = []
        self.values: list[Tensor] = []

    def then(self, source: Callable[[Factor], Tensor]) -> Callable[[Factor], Tensor]:
        """Return a source that keeps what another one is asked and says."""

        def keeping(factor: Factor) -> Tensor:
            self.factors.append(factor)
            self.values.append(source(factor))
            return self.values[-1]

        return keeping


def check_order(factors: list[Factor], levels: int) -> None:
    """Raise AssertionError unless a walk given x visits latents with p and q, or upward with q, then down with p."""
    latents = [f for f in factors if is_latent(f.at)]
    visits = [(f.at[1], f.p is not None, f.q is not None) for f in latents]
    down = range(levels, 0, -1)
    together = [(level, True, True) for level in down]
    apart = [(level, False, True) for level in reversed(down)] + [(level, True, False) for level in down]
    assert visits in (together, apart), f"given x it visits (level, has p, has q) {visits}"
    assert all(is_latent(f.at) for f in factors[: len(latents)]), "a latent comes after a value of x"


def cheap_walk(model: Model) -> str:
    """4. Sampling costs fewer multiply-adds than one parallel pass."""
    small = small_of(model).requires_grad_(False)  # the counter takes no views of parameters that need gradients
    x, context = random_x(small, 2), random_context(small, 2)
    with FlopCounterMode(display=False) as parallel, torch.no_grad():
        small.log_prob(x, context)
    drive(small.walk(2, context), (visited := Visited()).then(Sample(small.uniforms(2))))
    given = iter(visited.values)
    with FlopCounterMode(display=False) as walked:  # of the walk, not of the inverse cdf
        drive(small.walk(2, context), lambda factor: next(given))
    ratio = walked.get_total_flops() / parallel.get_total_flops()
    assert 0 < ratio < 1, f"{ratio:.3f} times those of one pass"
    return f"{ratio:.3f} times those of one pass"


@torch.no_grad()
def cached_is_naive(model: Model) -> str:
    """5. The same uniforms give the same sample, which is that of every value for itself by the parallel pass."""
    continuous = model.likelihood.levels is None
    small = small_of(model, likelihood=model.likelihood if continuous else few_levels(model.likelihood))
    context, noise = random_context(small, 2), small.uniforms(2)
    visited = Visited()
    x = drive(small.walk(2, context), visited.then(Sample(noise))).clone()
    assert torch.equal(drive(small.walk(2, context), Sample(noise)), x), "the same uniforms give another sample"
    for factor, value in zip(visited.factors[: len(small.levels)], visited.values, strict=False):
        if isinstance(factor.p, Gaussian):
            naive = factor.p.mean + factor.p.log_std.exp() * torch.special.ndtri(noise.at(factor.at))
            torch.testing.assert_close(value, naive)
    if continuous:
        return f"{len(small.levels)} latents; the densities of x are compared in 3"
    given = iter(visited.values[: len(small.levels)])
    state = drive(small.descent(2, context), lambda factor: next(given))
    places = list(positions(small.shape))
    first = torch.zeros_like(x)
    for at in places:
        first[:, *at] = drawn_naively(small, first, state, at, noise.x[:, *at])
        assert torch.equal(first[:, *at], x[:, *at]), f"at {at} they draw differently"
    return f"{len(small.levels)} latents and {len(places)} values"


def positions(shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the places of x, the channels of a position one after another, positions in raster order."""
    if len(shape) == 1:
        yield from ((d,) for d in range(shape[0]))
        return
    for position in itertools.product(*map(range, shape[1:])):
        yield from ((c, *position) for c in range(shape[0]))


def drawn_naively(model: LatentVariables, so_far: Tensor, state: Any, at: tuple[Any, ...], u: Tensor) -> Tensor:
    """Return the value at a place by its log p under every level, one parallel pass for each."""
    counted = torch.zeros_like(so_far[:1], dtype=torch.bool)
    counted[:, *at] = True
    log_p = []
    for level in range(model.likelihood.levels or 0):
        trial = so_far.clone()
        trial[:, *at] = level
        log_p.append(model.log_px(trial, state, counted))
    return Discrete(torch.stack(log_p, 1)).draw(u)


def walks_apart(model: Model) -> str:
    """8. Two interleaved walks do not disturb each other."""
    small = small_of(model)
    data = [(random_x(small, 2), random_context(small, 2), small.uniforms(2)) for _ in range(2)]
    alone, together = ([Visited(), Visited()] for _ in range(2))
    for (x, context, noise), seen in zip(data, alone, strict=True):
        drive(small.walk(2, context, x=x), seen.then(Infer(x, noise)))
    walks = [small.walk(2, context, x=x) for x, context, _ in data]
    sources = [seen.then(Infer(x, noise)) for seen, (x, _, noise) in zip(together, data, strict=True)]
    factors = [next(walk) for walk in walks]
    for _ in range(len(alone[0].values) - 1):
        factors = [walk.send(source(f)) for walk, source, f in zip(walks, sources, factors, strict=True)]
    for one, other in zip(alone, together, strict=True):
        same = all(torch.equal(a, b) for a, b in zip(one.values, other.values, strict=False))
        assert same, "a walk gives other latents beside another"
    return "two given x, step by step in turn"


def bounds_in_order(model: Model) -> str:
    """11. In the mean ELBO <= importance-weighted bound <= log p(x), and the ELBO is the mean log-weight."""
    continuous = model.likelihood.levels is None
    small: Model = small_of(model) if continuous else tiny_space(model)
    found = []
    for instance in (small, trained(small)):
        assert isinstance(instance, LatentVariables)
        found.append(check_bounds(instance))
    return "log p(x) less the bounds of 1 and 8 draws: " + "; ".join(f"{a:.3f}, {b:.3f}" for a, b in found)


@torch.no_grad()
def check_bounds(model: LatentVariables, batch: int = 4, times: int = 1600, samples: int = 8) -> tuple[float, float]:
    """Compare bounds and log p(x), in the mean over a few x; return how much the bounds fall short."""
    x = random_x(model, batch)
    several = x.repeat(times, *(1,) * len(model.shape))
    context, contexts = repeated_context(model, batch, times)
    noise = model.uniforms(len(several))
    elbo = model.terms(several, contexts, noise=noise).elbo().view(times, -1).mean(1)
    weights = model.log_weights(x, context, times, noise=noise).mean(1)
    tight = model.log_prob(several, contexts, samples=samples).view(times, -1).mean(1)
    exact = log_evidence(model, x, context).mean(1)
    gap, error = mean_of(elbo - weights)
    assert abs(gap) < SURE * error + 1e-6, f"the ELBO is {gap:+.4f} +- {error:.4f} nats from the mean log-weight"
    (low, low_error), (high, high_error), (log_px, exact_error) = map(mean_of, (elbo, tight, exact))
    error = math.hypot(low_error, high_error)
    assert low < high + SURE * error + 1e-6, f"the ELBO is {low:.4f}, the bound of {samples} {high:.4f} +- {error:.4f}"
    error = math.hypot(high_error, exact_error)
    assert high < log_px + SURE * error + 1e-6, f"the bound is {high:.4f}, log p(x) {log_px:.4f} +- {error:.4f} nats"
    return log_px - low, log_px - high


def mean_of(values: Tensor) -> tuple[float, float]:
    """Return the mean of independent values (N,) and its standard error."""
    return values.mean().item(), (values.std() / math.sqrt(len(values))).item()


def log_evidence(model: LatentVariables, x: Tensor, context: Tensor | None, repeats: int = 8) -> Tensor:
    """Return log p(x), (repeats, B) nats: p(x|z) in the mean over a lattice of latents of the prior, which needs no q.

    Each repeat shifts the lattice at random; a mean of p(x|z) has hardly an error, and its logarithm hardly a bias.
    """
    sizes = [math.prod(shape) for shape in model.network.shapes]
    rows = ROWS if model.prior is None else ROWS // 16  # whose draws take time
    points = min(4096, rows // (repeats * len(x)))
    out = []
    for seed in range(repeats):
        u = lattice(points, sum(sizes), seed).repeat_interleave(len(x), 0)
        z = tuple(part.unflatten(1, s) for part, s in zip(u.split(sizes, 1), model.network.shapes, strict=True))
        contexts = None if context is None else context.repeat(points, *(1,) * (context.dim() - 1))
        state = drive(model.descent(len(u), contexts), Sample(Joint(u, z)))
        out.append(model.log_px(x, state).double().view(points, len(x)).logsumexp(0) - math.log(points))
    return torch.stack(out)


def lattice(points: int, dimensions: int, seed: int) -> Tensor:
    """Return a scrambled Sobol sequence (points, dimensions) in [0, 1)."""
    engine = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=seed)
    return engine.draw(points, dtype=torch.float64)
