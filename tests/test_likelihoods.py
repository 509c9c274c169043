"""Every head is a distribution, at every bit depth and for every parameter; its draws follow what it scores."""

import copy
import math

import pytest
import torch
from scipy import stats

from ancestral.distributions import Discrete, discretized_logistic, log_one_minus_exp
from ancestral.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretizedLogisticMixture,
    GaussianMixture,
    LogisticMixture,
)

BITS = [1, 5, 8, 12, 16]
EXTREMES = [0.0, 1.0, -1.0, 3.0, -30.0, 1e3, -1e4]


def mixture_params(means, log_scales, components=2, seed=0):
    """Parameters (N, P) of a one-channel mixture for every pair of mean and log-scale."""
    torch.manual_seed(seed)
    grid = torch.cartesian_prod(torch.tensor(means), torch.tensor(log_scales))
    logits = torch.randn(len(grid), components)
    jitter = torch.randn(len(grid), components) * 0.01
    return torch.cat([logits, grid[:, :1] + jitter, grid[:, 1:].expand(-1, components)], 1)


def first(walk):
    return next(walk)


@pytest.mark.parametrize("bits", BITS)
def test_discretized_mixture_sums_to_one(bits):
    head = DiscretizedLogisticMixture(2**bits, 2)
    params = mixture_params(EXTREMES, [-1e3, -12.0, -7.0, -3.0, 0.0, 5.0, 80.0])
    log_pmf = first(head.walk(params, 1)).log_pmf()
    assert log_pmf.dtype == torch.float32
    assert log_pmf.isfinite().all()
    assert (log_pmf.double().exp().sum(-1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("head", ["bernoulli", "categorical", "mixture"])
def test_gradients_are_finite(bits, head):
    levels = 2**bits
    heads = {
        "bernoulli": Bernoulli(),
        "categorical": Categorical(levels),
        "mixture": DiscretizedLogisticMixture(levels, 2),
    }
    likelihood = heads[head]
    if likelihood.levels != levels:
        pytest.skip("two levels only")
    if head == "mixture":
        params = mixture_params(EXTREMES, [-1e3, -12.0, -7.0, 0.0, 5.0, 80.0])
    else:
        params = torch.cat([torch.randn(9, likelihood.features(1)), 1e4 * torch.randn(9, likelihood.features(1))])
    params.requires_grad_()
    for level in {0, 1, levels // 2, levels - 1}:
        x = torch.full((len(params), 1), level)
        (grad,) = torch.autograd.grad(likelihood.log_probs(params, x).sum(), params)
        assert grad.isfinite().all()


def test_gradient_reaches_a_mean_that_is_far_away():
    params = mixture_params([-0.9], [-7.0]).requires_grad_()
    (grad,) = torch.autograd.grad(
        DiscretizedLogisticMixture(256, 2).log_probs(params, torch.tensor([[250]])).sum(), params
    )
    assert (grad[0, 2:4] > 0).any()


@pytest.mark.parametrize("head", [Bernoulli(), Categorical(17), Categorical(256)])
def test_tables_sum_to_one(head):
    params = 50 * torch.randn(64, head.features(1))
    assert (first(head.walk(params, 1)).log_pmf().exp().sum(-1) - 1).abs().max() < 1e-5


def test_8_bits_equal_the_textbook_formula():
    """1701.05517, equation 2, in float64, where the plain difference of sigmoids is accurate."""
    mean, log_scale = torch.tensor([0.1], dtype=torch.float64), torch.tensor([-3.0], dtype=torch.float64)
    level = torch.arange(256, dtype=torch.float64)
    scaled = (level - 127.5) / 127.5
    upper = torch.sigmoid((scaled + 1 / 255 - mean) * torch.exp(-log_scale)).masked_fill(level == 255, 1)
    lower = torch.sigmoid((scaled - 1 / 255 - mean) * torch.exp(-log_scale)).masked_fill(level == 0, 0)
    ours = discretized_logistic(level, (mean + 1) * 127.5, log_scale + math.log(127.5), 256)
    torch.testing.assert_close(ours.exp(), upper - lower)


@pytest.mark.parametrize("bits", BITS)
def test_the_scale_floor_is_tied_to_the_bin_width(bits):
    """At its floor a component in the middle of a bin gives that bin the same probability at every depth."""
    levels = 2**bits
    mean = 2 * (levels // 2) / (levels - 1) - 1
    at_floor = first(DiscretizedLogisticMixture(levels, 1).walk(torch.tensor([[0.0, mean, -1e4]]), 1))
    scale_in_bins = math.exp(-7) * 127.5  # 1701.05517: log-scales of at least -7 at 8 bits
    expected = math.tanh(0.25 / scale_in_bins) if levels > 2 else 1 / (1 + math.exp(-0.5 / scale_in_bins))
    assert at_floor.log_prob(torch.tensor([levels // 2])).exp().item() == pytest.approx(expected, abs=3e-3)


def test_16_bit_bins_have_exactly_their_width():
    """Neighbouring narrow bins far from zero are smooth: no noise from subtracting rounded numbers."""
    log_pmf = first(DiscretizedLogisticMixture(65536, 1).walk(torch.tensor([[0.0, 0.9, -8.0]]), 1)).log_pmf()[0]
    exact = first(DiscretizedLogisticMixture(65536, 1).walk(torch.tensor([[0.0, 0.9, -8.0]]).double(), 1)).log_pmf()[0]
    near = slice(62000, 62500)
    assert (log_pmf[near].double() - exact[near]).abs().max() < 2e-3


@pytest.mark.parametrize("log_d", [-1e4, -50.0, -5.001, -4.999, 0.0, 3.0, 80.0])
def test_log_one_minus_exp(log_d):
    value = torch.tensor(log_d, dtype=torch.float64, requires_grad=True)
    out = log_one_minus_exp(value)
    out.backward()
    assert value.grad is not None
    assert value.grad.isfinite()
    if -20 < log_d < 5:
        assert out.item() == pytest.approx(math.log(-math.expm1(-math.exp(log_d))), rel=1e-9)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("head", [Categorical(3), Bernoulli(), DiscretizedLogisticMixture(3, 4)])
def test_channel_walk_equals_the_joint(head, channels):
    """Channel by channel, with re-weighted components, is the joint; and the joint sums to one."""
    params = torch.randn(1, head.features(channels), dtype=torch.float64)
    points = torch.cartesian_prod(*[torch.arange(head.levels)] * channels).view(-1, channels)
    log_probs = head.log_probs(params.expand(len(points), -1), points)
    assert log_probs.sum(1).exp().sum().item() == pytest.approx(1, abs=1e-12)
    walk = head.walk(params.expand(len(points), -1), channels)
    p = next(walk)
    for c in range(channels):
        torch.testing.assert_close(p.log_prob(points[:, c]), log_probs[:, c])
        try:
            p = walk.send(points[:, c])
        except StopIteration as end:
            returned = end.value
    assert torch.equal(returned, points)


def test_one_indicator_is_shared_by_the_channels():
    """Two far components: once red is known, so is the component of green."""
    head = DiscretizedLogisticMixture(256, 2)
    params = torch.tensor([[0.0, 0.0, -0.5, 0.5, -0.5, 0.5, -6.0, -6.0, -6.0, -6.0, 0.0, 0.0]])
    walk = head.walk(params, 2)
    next(walk)
    green = walk.send(torch.tensor([64]))
    assert green.cdf(torch.tensor([128])).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("head", [LogisticMixture(1), GaussianMixture(1)])
def test_densities_equal_those_of_scipy(head):
    reference = stats.logistic if isinstance(head, LogisticMixture) else stats.norm
    p = first(head.walk(torch.tensor([[0.0, 0.7, -0.4]], dtype=torch.float64), 1))
    x = torch.tensor([2.5], dtype=torch.float64)
    assert p.log_prob(x).item() == pytest.approx(reference.logpdf(2.5, 0.7, math.exp(-0.4)))
    assert p.cdf(x).item() == pytest.approx(reference.cdf(2.5, 0.7, math.exp(-0.4)))
    u = torch.tensor([0.123], dtype=torch.float64)
    assert p.draw(u).item() == pytest.approx(reference.ppf(0.123, 0.7, math.exp(-0.4)))


def distributions():
    torch.manual_seed(1)
    heads = [Bernoulli(), Categorical(17), *(DiscretizedLogisticMixture(k, 3) for k in (2, 17, 256, 1000, 65536))]
    return [pytest.param(first(h.walk(torch.randn(1, h.features(1)), 1)), id=str(h)) for h in heads]


@pytest.mark.parametrize("p", distributions())
def test_a_draw_inverts_the_cdf(p):
    levels = p.log_pmf().shape[-1]
    cdf = p.cdf(torch.arange(levels)[None])[0].float()
    assert cdf[-1].item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(cdf.diff(), p.log_pmf()[0, 1:].exp(), atol=2e-6, rtol=0)
    assert p.cdf(torch.tensor([-1])).item() == 0
    for u in (0.0, 1e-6, 0.3, 0.77, 1 - 1e-9):
        level = p.draw(torch.tensor([u], dtype=torch.float64)).item()
        assert 0 <= level < levels
        assert u <= cdf[level] + 1e-6
        assert level == 0 or cdf[level - 1] <= u + 1e-6


@pytest.mark.parametrize("p", distributions())
def test_draws_follow_the_pmf(p):
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    wide = copy.copy(p)  # for as many examples
    vars(wide).update({name: t.repeat_interleave(len(u), 0) for name, t in vars(p).items() if torch.is_tensor(t)})
    counts = torch.bincount(wide.draw(u), minlength=p.log_pmf().shape[-1]) / len(u)
    assert (counts.cumsum(0) - p.cdf(torch.arange(len(counts))[None])[0]).abs().max() < 1e-4


@pytest.mark.parametrize("p", distributions())
def test_temperature(p):
    log_pmf = p.log_pmf()
    assert p.tempered(1) is p
    half = p.tempered(0.5).log_pmf()
    torch.testing.assert_close(half, torch.log_softmax(2 * log_pmf, -1))
    for cold in (0, 1e-9):
        for u in (0.001, 0.5, 0.999):
            assert p.tempered(cold).draw(torch.tensor([u])) == log_pmf.argmax()


def test_a_level_of_probability_zero_is_never_drawn():
    p = Discrete(torch.tensor([[-math.inf, 0.0, -math.inf]]))
    for u in (0.0, 0.5, 1 - 2**-53):
        assert p.draw(torch.tensor([u], dtype=torch.float64)) == 1


@pytest.mark.parametrize("levels", [2, 256, 65536])
def test_no_draw_is_impossible(levels):
    """Even for uniforms next to one: a cdf that falls short of one by rounding would draw the top level."""
    means = torch.rand(500, 3) - 0.9
    params = torch.cat([torch.randn(500, 3), means, torch.full((500, 3), -6.0)], 1)
    p = first(DiscretizedLogisticMixture(levels, 3).walk(params, 1))
    for u in (1e-12, 1 - 1e-7, 1 - 2**-24, 1 - 1e-12):
        level = p.draw(torch.full((500,), u, dtype=torch.float64))
        assert p.log_prob(level).min() > -40


def test_a_batch_of_none():
    for head in (Bernoulli(), DiscretizedLogisticMixture(256, 2), GaussianMixture(2)):
        p = first(head.walk(torch.zeros(0, head.features(1)), 1))
        assert p.draw(torch.zeros(0)).shape == (0,)


def test_what_continuous_heads_refuse():
    p = first(GaussianMixture(2).walk(torch.randn(1, 6), 1))
    with pytest.raises(ValueError, match=r"temperature must be 1 for a continuous likelihood, got 0\.5"):
        p.tempered(0.5)
    with pytest.raises(ValueError, match="no log_pmf"):
        p.log_pmf()


def test_negative_temperature():
    with pytest.raises(ValueError, match="temperature must be at least 0, got -1"):
        first(Bernoulli().walk(torch.zeros(1, 1), 1)).tempered(-1)


@pytest.mark.parametrize("wrong", [lambda: Categorical(1), lambda: DiscretizedLogisticMixture(256, 0)])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match=r"must be an integer of at least \d, got"):
        wrong()


def test_likelihoods_are_float32_under_autocast():
    params = torch.randn(4, 30)
    x = torch.randint(256, (4, 1))
    with torch.autocast("cpu", torch.bfloat16):
        for head in (DiscretizedLogisticMixture(256, 10), Bernoulli()):
            low = head.log_probs(params[:, : head.features(1)].bfloat16(), x.clamp(max=head.levels - 1))
            assert low.dtype == torch.float32


def test_features():
    assert DiscretizedLogisticMixture(256, 10).features(3) == 100  # 10 K of 1701.05517
    assert DiscretizedLogisticMixture(256, 10).features(1) == 30
    assert Categorical(256).features(3) == 768
    assert Bernoulli().features(1) == 1
