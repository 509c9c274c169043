"""The checks of the contract, one function each: it returns what it found, or says by an exception what is wrong."""

import copy
import io
import math
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ancestral.codec import Entry, Writer, decompress
from ancestral.codec.counts import FINEST
from ancestral.conditioning import OneHot
from ancestral.distributions import Discrete, Distribution
from ancestral.model import Model
from ancestral.models.latent import LatentVariables
from ancestral.testing import latent
from ancestral.testing.instances import (
    NotApplicable,
    evaluating,
    every_x,
    few_levels,
    odd_shapes,
    order_of,
    random_context,
    random_x,
    rebuilt,
    tiny_space,
    trained,
)
from ancestral.walk import Factor, Observe, Sample, drive

GIVEN = 20  # bytes of values beside a stream: by chance one is, and so is the same one of other examples that are alike


def changed_by(model: Model, x: Tensor, context: Tensor | None, places: list[tuple[Any, ...]]) -> Tensor:
    """Return whether perturbing the value at places[i] changes log p of that at places[j], (i, j), exactly.

    The perturbed and the unperturbed batches have the same shape, so that equal inputs meet equal arithmetic.
    """
    n = len(places)
    base = x.expand(n, *x.shape[1:]).clone()
    other, levels = base.clone(), model.likelihood.levels
    for i, at in enumerate(places):
        other[i, *at] = (base[i, *at] + 1) % levels if levels else base[i, *at] + 1
    contexts = None if context is None else context.expand(n, *context.shape[1:])
    with torch.no_grad():
        different = model.log_probs(base, contexts) != model.log_probs(other, contexts)
    return torch.stack([different[:, *at] for at in places], 1)


def no_leak(model: Model) -> str:
    """1. No log-probability depends on a later value; what is declared is seen, and no more."""
    positions = 0
    for shape in odd_shapes(model):
        fresh = [rebuilt(model, shape) for _ in range(8)]
        check_field([*fresh, trained(fresh[0])])
        positions += math.prod(shape)
    sampled_leak(model)
    return f"{positions} positions of {len(odd_shapes(model))} small sizes, fresh and trained, and this model itself"


def check_field(instances: list[Model]) -> None:
    """Compare what every position sees, for some weights and input, with what may be and what is declared."""
    model = instances[0]
    places = order_of(model)
    changed = torch.zeros(len(places), len(places), dtype=torch.bool)
    for instance in instances:  # a unit that is off hides what it sees, so one will not do
        for _ in range(2):
            changed |= changed_by(instance, random_x(model, 1), random_context(model, 1), places)
    leaks = changed.tril(-1).nonzero().tolist()
    assert not leaks, f"shape {model.shape}: {places[leaks[0][1]]} sees the later {places[leaks[0][0]]}"
    for j, at in enumerate(places):
        declared = model.receptive_field(at)
        seen = [i for i in range(j) if changed[i, j]]
        outside = [places[i] for i in seen if not declared[places[i]]]
        assert not outside, f"shape {model.shape}: {at} sees {outside[0]}, outside its declared receptive field"
        blind = [p for i, p in enumerate(places) if declared[p] and i not in seen]
        assert not blind, f"shape {model.shape}: {at} does not see {blind[0]}, inside its declared receptive field"


def sampled_leak(model: Model, positions: int = 12) -> None:
    """Perturb a few values of the model as it is, and compare the log-probabilities of the earlier ones, exactly."""
    with evaluating(model):
        places = order_of(model)
        some = sorted(torch.randperm(len(places))[:positions].tolist())
        x = random_x(model, 1).to(model.device)
        x = x.float() if x.is_floating_point() else x
        changed = changed_by(model, x, random_context(model, 1), [places[i] for i in some])
        leaks = changed.tril(-1).nonzero().tolist()
        assert not leaks, f"in this model, {places[some[leaks[0][1]]]} sees the later {places[some[leaks[0][0]]]}"


def sums_to_one(model: Model) -> str:
    """2. The probabilities of all x of a tiny space, and those of every factor, sum to one."""
    worst = factor_sums(model)
    if model.likelihood.levels is None:
        return f"every density integrates to one, within {worst:.1e}"
    small = tiny_space(model)
    x = every_x(small.likelihood.levels or 0, small.shape)
    for instance in (small, trained(small)):
        context = random_context(instance, 1)
        contexts = None if context is None else context.expand(len(x), *context.shape[1:])
        with torch.no_grad():
            total = instance.log_prob(x, contexts).exp().sum().item()
        assert abs(total - 1) < 1e-8, f"{len(x)} points of shape {small.shape}: the sum is {total:.10f}"
    return f"all {len(x)} points of a tiny space within 1e-8, every factor of this model within {worst:.1e}"


def factor_sums(model: Model) -> float:
    """Return how far the sum of a factor of the model as it is is from one, at most; the first ones are looked at."""
    discrete = model.likelihood.levels is not None
    worst = 0.0
    with evaluating(model):
        walk = model.walk(2, random_context(model, 2))
        factor = next(walk)
        for _ in range(200 if discrete else 2):
            assert factor.p is not None
            total = factor.p.log_pmf().double().exp().sum(-1) if discrete else integral(factor.p, model.device)
            worst = max(worst, (total - 1).abs().max().item())
            try:
                factor = walk.send(factor.p.draw(torch.rand(2, dtype=torch.float64, device=model.device)))
            except StopIteration:
                break
    assert worst < (1e-5 if discrete else 1e-3), f"the probabilities of a factor sum to 1 +- {worst:.1e}"
    return worst


def integral(p: Distribution, device: torch.device) -> Tensor:
    """Return the integral of a density, by the trapezoidal rule between quantiles."""
    u = torch.sigmoid(torch.linspace(-14, 14, 600, dtype=torch.float64, device=device))
    at = torch.stack([p.draw(q.expand(2)) for q in u])
    return torch.trapezoid(torch.stack([p.log_prob(v).exp() for v in at]).double(), at.double(), dim=0)


def walked_is_parallel(model: Model) -> str:
    """3. The walk's log-probabilities are those of the parallel pass, factor by factor."""
    worst = 0.0
    for shape in odd_shapes(model):
        small = rebuilt(model, shape)
        x, context = random_x(small, 3), random_context(small, 3)
        worst = max(worst, difference(small, x, context))
        assert worst < 1e-9, f"shape {shape}: they differ by {worst:.1e} nats in float64"
    with evaluating(model):
        x, context = random_x(model, 2).to(model.device), random_context(model, 2)
        own = difference(model, x.to(model.dtype) if x.is_floating_point() else x, context)
    assert own < 1e-2, f"in this model they differ by {own:.1e} nats"
    return f"within {worst:.1e} nats in float64; this model, {own:.1e}"


def difference(model: Model, x: Tensor, context: Tensor | None) -> float:
    """Return by how much a factor of the walk and of the parallel pass differ at most, in nats."""
    seen = Observe(x)
    drive(model.walk(len(x), context), seen)
    with torch.no_grad():
        parallel = model.log_probs(x, context)
    walked = dict(zip(order_of(model), seen.log_probs, strict=True))
    return max((parallel[:, *at] - log_p).abs().max().item() for at, log_p in walked.items())


def cheap_walk(model: Model) -> str:
    """4. A walk's multiply-adds are at most those of one parallel pass."""
    small = rebuilt(model, odd_shapes(model)[0])
    x, context = random_x(small, 2), random_context(small, 2)
    with FlopCounterMode(display=False) as parallel, torch.no_grad():
        small.log_probs(x, context)
    with FlopCounterMode(display=False) as walked:
        drive(small.walk(2, context), Observe(x))
    ratio = walked.get_total_flops() / parallel.get_total_flops()
    assert 0 < ratio <= 1, f"{ratio:.3f} times those of one pass"
    return f"{ratio:.3f} times those of one pass"


def cached_is_naive(model: Model) -> str:
    """5. The same uniforms give the same sample by the walk and by one parallel pass for every value."""
    continuous = model.likelihood.levels is None
    likelihood = model.likelihood if continuous else few_levels(model.likelihood)
    small = rebuilt(model, odd_shapes(model)[0], likelihood=likelihood)
    context, noise, batch = random_context(small, 2), small.noise(2, small.shape), 2
    x = small.empty(batch, small.shape)
    sampled: list[Factor] = []

    def source(factor: Factor) -> Tensor:
        sampled.append(factor)
        x[:, *factor.at] = value = Sample(noise)(factor)
        return value

    first = x.clone()
    drive(small.walk(batch, context), source)
    for factor in sampled:
        check_naive(small, factor, first, x[:, *factor.at], noise[:, *factor.at], context)
        first[:, *factor.at] = x[:, *factor.at]
    return f"{len(sampled)} factors, {'densities' if continuous else 'and their draws'}"


def check_naive(model: Model, factor: Factor, so_far: Tensor, value: Tensor, u: Tensor, context: Tensor | None) -> None:
    """Compare a walked factor with what the parallel pass says of every value at its place, and the draws."""
    assert factor.p is not None
    levels = model.likelihood.levels
    candidates = [torch.full_like(value, k) for k in range(levels)] if levels else [value, value + 1]
    naive = []
    for v in candidates:
        trial = so_far.clone()
        trial[:, *factor.at] = v
        with torch.no_grad():
            naive.append(model.log_probs(trial, context)[:, *factor.at])
        gap = (naive[-1] - factor.p.log_prob(v)).abs().max().item()
        assert gap < 1e-6, f"at {factor.at} the walk and the pass differ by {gap:.1e} nats"
    if levels:
        assert torch.equal(Discrete(torch.stack(naive, 1)).draw(u), value), f"at {factor.at} they draw differently"


def completes(model: Model) -> str:
    """6. Completion keeps what is known; nothing known is sampling; all known is the identity."""
    small = rebuilt(model, odd_shapes(model)[0])
    x, context = random_x(small, 3), random_context(small, 3)
    x = x.to(small.empty(1, ()).dtype)
    seeded = lambda: torch.Generator().manual_seed(1)  # noqa: E731
    some = torch.rand(1, *small.shape).expand(3, *small.shape) < 0.5
    done = small.complete(x, some, context, proposals=2, generator=seeded())
    assert torch.equal(done[some], x[some]), "a known value was changed"
    small.check(done)
    nothing = small.complete(x, torch.zeros_like(some), context, generator=seeded())
    assert torch.equal(nothing, small.sample(3, context, generator=seeded())), "nothing known is not sampling"
    assert torch.equal(small.complete(x, torch.ones_like(some), context), x), "all known is not the identity"
    return "some, none and all known"


def codes(model: Model) -> str:
    """7. decode(encode(x)) = x on draws, noise and constants, at a length of -log2 p(x), and 64 bits and 0.1 % more."""
    levels = model.likelihood.levels
    if levels is None:
        raise NotApplicable("only levels can be coded, not densities")
    if not isinstance(model.conditioner, OneHot | None):
        raise NotApplicable("a file holds classes, and no other context")
    small, excess = rebuilt(model, odd_shapes(model)[0]).eval(), 0.0
    assert not small.exact or small.places() == order_of(small), "places() are not those of the walk"
    context = random_context(small, 3)
    for x in (small.sample(3, context), random_x(small, 3), torch.full((3, *small.shape), levels - 1)):
        file = io.BytesIO()
        with Writer(file, small, verify=False) as writer:
            for i, example in enumerate(x):
                writer.add(Entry("", None if context is None else int(context[i]), small.shape), example)
        assert not writer.totals.fallbacks, f"the model cannot code: {', '.join(writer.totals.fallbacks)}"
        assert torch.equal(decompress(small, file.getvalue()), x), "what was compressed comes back as something else"
        if small.exact:
            excess = max(excess, excess_of(small, x, context, 8 * writer.totals.streams))
            assert writer.totals.given <= GIVEN, f"{writer.totals.given} bytes are stored beside the stream"
    return "draws, noise and constants" + (f", at most {excess:.0f} bits above -log2 p(x)" if small.exact else "")


@torch.no_grad()
def excess_of(model: Model, x: Tensor, context: Tensor | None, length: int) -> float:
    """Return how many bits a length is above -log2 p(x).

    A value whose p is below a count of the coder may take 10 bits more than it says: its low digits count all alike.
    """
    each = -model.log_probs(x, context).double() / math.log(2)
    bits, rare = float(each.sum()), int((each > FINEST).sum())
    assert length <= 1.001 * bits + 64 + 10 * rare, f"{length} bits where -log2 p(x) is {bits:.1f}"
    return length - bits


def walks_apart(model: Model) -> str:
    """8. Two interleaved walks do not disturb each other."""
    small = rebuilt(model, odd_shapes(model)[0])
    data = [(random_x(small, 2), random_context(small, 2)) for _ in range(2)]
    alone = [Observe(x) for x, _ in data]
    for (_, context), source in zip(data, alone, strict=True):
        drive(small.walk(2, context), source)
    together = [Observe(x) for x, _ in data]
    walks = [small.walk(2, context) for _, context in data]
    factors = [next(walk) for walk in walks]
    for _ in range(len(alone[0].log_probs) - 1):
        factors = [w.send(s(f)) for w, s, f in zip(walks, together, factors, strict=True)]
    for one, other in zip(alone, together, strict=True):
        same = all(torch.equal(a, b) for a, b in zip(one.log_probs, other.log_probs, strict=False))
        assert same, "a walk gives other probabilities beside another"
    return "two, step by step in turn"


def learns(model: Model) -> str:
    """9. Every parameter gets a gradient."""
    small = rebuilt(model, odd_shapes(model)[0]).train()
    (-small.log_prob(random_x(small, 16), random_context(small, 16)).mean()).backward()
    for name, p in small.named_parameters():
        assert p.grad is not None, f"{name} gets none"
        assert bool(p.grad.isfinite().all()), f"that of {name} is not finite"
        assert bool((p.grad != 0).any()), f"that of {name} is zero"
    return f"{len(list(small.parameters()))} tensors, all finite and none zero"


def keeps(model: Model) -> str:
    """10. Saving and loading, copying and changing the dtype keep the model."""
    from ancestral import checkpoint

    small = rebuilt(model, odd_shapes(model)[0]).float()
    x, context = random_x(small, 2), random_context(small, 2)
    x = x.float() if x.is_floating_point() else x
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        checkpoint.save(small, folder)
        loaded = checkpoint.load(folder)
        expected = seeded_log_prob(small, x, context)
        assert torch.equal(seeded_log_prob(loaded, x, context), expected), "it changes when it is saved and loaded"
        assert torch.equal(seeded_log_prob(copy.deepcopy(small), x, context), expected), "a deep copy differs"
        double = small.double()
        wide = context.double() if context is not None and context.is_floating_point() else context
        gap = (seeded_log_prob(double, x.double(), wide) - expected).abs().max().item()
        assert gap < 1e-2, f"in float64 it differs by {gap:.1e} nats"
    return "save and load, deepcopy, float32 and float64"


def seeded_log_prob(model: Model, x: Tensor, context: Tensor | None) -> Tensor:
    """Return log p(x), or a bound with the same draws in every call."""
    torch.manual_seed(0)
    return model.log_prob(x, context)


def bounds(model: Model) -> str:
    """11. Bounds in order."""
    raise NotApplicable("log_prob is exact")


def decoder_leak(model: Model) -> str:
    """1. No leak in the decoder, whatever the latents tell it; without one nothing is earlier than anything else."""
    decoder = getattr(model, "decoder", None)
    if decoder is None:
        raise NotApplicable("the latents tie all values together: no value of x has a conditional of its own")
    return f"the decoder: {no_leak(decoder)}"


CONTRACT: dict[int, tuple[str, Callable[[Model], str]]] = {
    1: ("no leak, receptive field as declared", no_leak),
    2: ("probabilities sum to one", sums_to_one),
    3: ("walk = parallel pass", walked_is_parallel),
    4: ("a walk costs at most one pass", cheap_walk),
    5: ("cached sampling = naive sampling", cached_is_naive),
    6: ("completion", completes),
    7: ("lossless coding", codes),
    8: ("walks do not disturb each other", walks_apart),
    9: ("every parameter learns", learns),
    10: ("save, load, copy, dtype", keeps),
    11: ("bounds in order", bounds),
}
OF_LATENTS: dict[int, tuple[str, Callable[[Model], str]]] = CONTRACT | {
    1: ("no leak, receptive field as declared", decoder_leak),
    2: ("importance weights are unbiased", latent.is_unbiased),
    3: ("walk = parallel pass", latent.walked_is_parallel),
    4: ("a walk costs at most one pass", latent.cheap_walk),
    5: ("cached sampling = naive sampling", latent.cached_is_naive),
    8: ("walks do not disturb each other", latent.walks_apart),
    11: ("bounds in order", latent.bounds_in_order),
}


def contract_of(model: Model) -> dict[int, tuple[str, Callable[[Model], str]]]:
    """Return the checks of a model: number, name and function."""
    return OF_LATENTS if isinstance(model, LatentVariables) else CONTRACT
