"""Latent variables: bounds against what is known exactly, distributions, posteriors, completion, bad input."""

import logging
import math

import pytest
import torch

from ancestral.distributions import Discrete, Gaussian, Independent
from ancestral.latents import BottomUp, Convolutional, Dense, Ladder, MeanField, Residual, TopDown
from ancestral.latents.posteriors import LEAST_VARIANCE, weighted
from ancestral.likelihoods import Bernoulli, Categorical, GaussianMixture
from ancestral.models import MADE, HierarchicalVAE
from ancestral.testing import check_model, every_x, outcomes, randomized, tiny
from ancestral.testing.latent import NotApplicable, is_unbiased
from ancestral.walk import Factor, Infer, Joint, Sample, drive


def hierarchy(**arguments):
    return HierarchicalVAE(**{**tiny("hierarchical-vae").arguments, **arguments}).eval()


def made(size, **arguments):
    return MADE(shape=(size,), **{"likelihood": GaussianMixture(2), "hidden": (8,), **arguments})


# --- a linear-Gaussian hierarchy: z_2 ~ N(0, 1), z_1 ~ N(a z_2 + b, s^2), x ~ N(w z_1 + c, t^2)

B, S = 0.4, 0.6
W, C, T = torch.tensor([1.2, -0.7, 0.3]).double(), torch.tensor([0.1, -0.2, 0.5]).double(), 0.8
X = torch.tensor([[0.3, 0.2, -0.5], [2.0, -1.5, 1.0], [-1.0, 0.4, 0.9]]).double()


def linear_gaussian(posterior, a=1.1):
    network = Dense(hidden=(1, 1), layers=0)
    model = HierarchicalVAE(
        shape=(3,), likelihood=GaussianMixture(1), latents=(1, 1), network=network, posterior=posterior
    )
    net = model.double().eval().network
    with torch.no_grad():
        set_head(net.priors[0], a, B, S)
        if posterior == Ladder():
            set_variance(net.priors[0], a, B, torch.tensor(S * S, dtype=torch.float64))
        net.out.weight.zero_()
        net.out.bias.zero_()
        net.out.weight[3:6, 0], net.out.bias[3:6], net.out.bias[6:9] = W, C, math.log(T)
    return model


def set_head(head, weight, bias, std):
    """Let a head say the mean weight @ input + bias and a constant standard deviation."""
    head.weight.zero_()
    head.weight[0], head.bias[0], head.bias[1] = weight, bias, math.log(std)


def set_variance(head, weight, bias, variance):
    """The same for a Ladder, whose variance is a softplus and a little more."""
    set_head(head, weight, bias, 1)
    head.bias[1] = torch.log(torch.expm1(variance - LEAST_VARIANCE))


def exact_log_px(a=1.1):
    covariance = W[:, None] * W * (a * a + S * S) + T * T * torch.eye(3, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(C + W * B, covariance).log_prob(X)


@torch.no_grad()
def make_exact(model, a=1.1):
    """Set the posterior to the true one; of a mean field to the best one."""
    heads, kind = model.network.posteriors, model.posterior
    by_x, of_x = W / T**2, -(W * C).sum() / T**2
    first = 1 / (a * a + S * S) + (W * by_x).sum()  # precision of z_1 given x
    weight, bias = by_x / first, (B / (a * a + S * S) + of_x) / first
    first_of_all, second_of_all = 1 / S**2 + (W * by_x).sum(), 1 + a * a / S**2  # given x and the other one
    k = a / S**2 / second_of_all  # z_2 given z_1
    if kind == BottomUp():
        set_head(heads[0], weight, bias, first**-0.5)
        set_head(heads[1], k, -k * B, second_of_all**-0.5)
    elif kind == TopDown():
        set_head(heads[0], torch.cat([by_x, by_x.new_tensor([a / S**2])]) / first_of_all, 0, first_of_all**-0.5)
        heads[0].bias[0] = (B / S**2 + of_x) / first_of_all
        set_head(heads[1], k * weight, k * (bias - B), (1 / second_of_all + k * k / first) ** 0.5)
    elif kind == Ladder():
        told = (W * by_x).sum()  # what x says of z_1 has this precision; the prior's is added
        set_variance(heads[0], by_x / told, of_x / told, 1 / told)
        set_variance(heads[1], k * weight, k * (bias - B), 1 / second_of_all + k * k / first)
    else:
        set_head(heads[0], weight, bias, first_of_all**-0.5)
        set_head(heads[1], k * weight, k * (bias - B), second_of_all**-0.5)
    return first_of_all * second_of_all / (first_of_all * second_of_all - (a / S**2) ** 2)


# which a posterior can be exact for
EXACTLY = [(BottomUp(), 1.1), (TopDown(), 1.1), (Ladder(), 1.1), (MeanField(), 0.0)]


@pytest.mark.parametrize(("posterior", "a"), EXACTLY, ids=str)
def test_the_exact_posterior_gives_the_likelihood_by_every_draw(posterior, a):
    model = linear_gaussian(posterior, a)
    make_exact(model, a)
    with torch.no_grad():
        weights = model.log_weights(X, times=7)
        torch.testing.assert_close(weights, exact_log_px(a).expand(7, -1), rtol=0, atol=1e-10)
        torch.testing.assert_close(model.log_prob(X, samples=7), exact_log_px(a), rtol=0, atol=1e-10)


def mean_bound(model, samples, times):
    with torch.no_grad():
        bounds = model.log_prob(X.repeat(times, 1), samples=samples).view(times, len(X))
    return bounds.mean(0), bounds.std(0) / math.sqrt(times)


@pytest.mark.parametrize("posterior", [BottomUp(), TopDown(), MeanField(), Ladder()], ids=str)
def test_bounds_of_a_linear_hierarchy_are_in_order(posterior):
    model = linear_gaussian(posterior)
    make_exact(model)
    with torch.no_grad():
        model.network.posteriors[0].bias[0] += 0.4
        model.network.posteriors[1].bias[1] += 0.3
    exact = exact_log_px()
    (elbo, e1), (five, e5), (many, em) = (mean_bound(model, k, n) for k, n in ((1, 8000), (5, 8000), (1000, 20)))
    assert (elbo + 4 * (e1 + e5) < five).all()
    assert (five + 4 * e5 < exact).all()
    assert (many < exact + 4 * em).all()
    assert (exact - many < 0.05 + 4 * em).all()


def test_what_the_best_mean_field_costs():
    """Where the true posterior couples the levels, half the log of prod Lambda_ii / det Lambda."""
    model = linear_gaussian(MeanField())
    cost = 0.5 * math.log(make_exact(model))
    elbo, error = mean_bound(model, 1, 20000)
    assert cost > 0.2
    assert ((exact_log_px() - cost - elbo).abs() < 5 * error).all()


def test_the_closed_mean_field_elbo_is_its_definition_with_less_noise():
    """E_q log p(x, z) / q(z|x); and one draw of each level, with divergences in closed form."""
    model, n = randomized(hierarchy(posterior=MeanField()).double()), 20000
    x = torch.randint(2, (1, 6))
    with torch.no_grad():
        elbo, weights = model.log_prob(x.expand(n, -1)), model.log_weights(x, times=n).flatten()
    error = math.hypot(elbo.std() / math.sqrt(n), weights.std() / math.sqrt(n))
    assert abs(elbo.mean() - weights.mean()) < 5 * error < 0.1
    assert elbo.var() < 0.7 * weights.var()


# --- a discrete hierarchy that can be enumerated


def tables(*sizes):
    return torch.randn(*sizes).double().log_softmax(-1)


class Enumerable:
    """z_2 in 2 levels, z_1 in 3, x in 4, and a posterior from the bottom up."""

    def __init__(self):
        self.p2, self.p1, self.px = tables(2), tables(2, 3), tables(3, 4)
        self.q1, self.q2 = tables(4, 3), tables(3, 2)

    def joint(self):
        """log p(x, z_1, z_2), (4, 3, 2)."""
        return (self.p2[:, None, None] + self.p1[:, :, None] + self.px).permute(2, 1, 0)

    def posterior(self):
        return self.q1[:, :, None] + self.q2

    def make_exact(self):
        joint = self.joint()
        self.q1 = joint.logsumexp(2).log_softmax(1)
        self.q2 = (self.p2[:, None] + self.p1).t().log_softmax(1)

    def walk(self, x):
        z1 = yield Factor(None, ("z", 1), Discrete(self.q1[x]))
        z2 = yield Factor(None, ("z", 2), Discrete(self.q2[z1]))
        assert torch.equal((yield Factor(Discrete(self.p2.expand(len(x), 2)), ("z", 2))), z2)
        assert torch.equal((yield Factor(Discrete(self.p1[z2]), ("z", 1))), z1)
        return (yield Factor(Discrete(self.px[z1]), ()))

    def log_weights(self, x):
        source = Infer(x, Joint(x, (torch.rand(len(x)).double(), torch.rand(len(x)).double())))
        assert torch.equal(drive(self.walk(x), source), x)
        return source.log_weight(torch.stack(source.log_px).sum(0)), source


def test_bounds_of_a_discrete_hierarchy_are_those_by_enumeration():
    model, n = Enumerable(), 40000
    exact = model.joint().logsumexp((1, 2))
    log_w, q = (model.joint() - model.posterior()).flatten(1), model.posterior().exp().flatten(1)
    elbo = (q * log_w).sum(1)
    pair = torch.logaddexp(log_w[:, :, None], log_w[:, None]) - math.log(2)
    two = (q[:, :, None] * q[:, None] * pair).sum((1, 2))
    assert (elbo < two).all()
    assert (two < exact).all()
    for x in range(4):
        drawn, source = model.log_weights(torch.full((n,), x))
        halves = torch.logaddexp(*drawn.chunk(2)) - math.log(2)
        assert abs(drawn.mean() - elbo[x]) < 5 * drawn.std() / math.sqrt(n)
        assert abs(halves.mean() - two[x]) < 5 * halves.std() / math.sqrt(n / 2)
        assert torch.allclose(source.log_px[0] - source.kl[1] - source.kl[2], drawn)


def test_the_exact_posterior_of_a_discrete_hierarchy_gives_the_likelihood_by_every_draw():
    model = Enumerable()
    model.make_exact()
    x = torch.arange(4).repeat(50)
    torch.testing.assert_close(model.log_weights(x)[0], model.joint().logsumexp((1, 2))[x], rtol=0, atol=1e-12)


# --- distributions and posteriors


def gaussians():
    q, p = (Gaussian(torch.randn(1, 4, 2).double(), 0.5 * torch.randn(1, 4, 2).double()) for _ in range(2))
    return q, p, *(torch.distributions.Normal(g.mean, g.log_std.exp()) for g in (q, p))


def test_divergence_of_gaussians():
    q, p, known_q, known_p = gaussians()
    torch.testing.assert_close(q.kl(p), torch.distributions.kl_divergence(known_q, known_p))
    z = q.draw(torch.rand(40000, 4, 2).double())
    ratio = q.log_prob(z) - p.log_prob(z)
    assert abs(ratio.mean() - q.kl(p).sum()) < 5 * ratio.std() / 200
    assert torch.equal(q.kl(q), torch.zeros_like(q.mean))


def test_gaussian():
    q, _, known, _ = gaussians()
    u = torch.rand(5, 4, 2).double()
    z = q.draw(u)
    torch.testing.assert_close(z, known.icdf(u))
    torch.testing.assert_close(q.cdf(z), u)
    torch.testing.assert_close(q.log_prob(z), known.log_prob(z).flatten(1).sum(1))
    torch.testing.assert_close(q.log_probs(z).flatten(1).sum(1), q.log_prob(z))
    torch.testing.assert_close(q.tempered(0.25).draw(u) - q.mean, (z - q.mean) / 2)
    torch.testing.assert_close(q.tempered(0).draw(u), q.mean.expand_as(z))
    with pytest.raises(ValueError, match="temperature must be at least 0, got -1"):
        q.tempered(-1)
    with pytest.raises(ValueError, match="has no log_pmf"):
        q.log_pmf()


def test_independent_positions():
    table = tables(6, 3)
    p, u = Independent(Discrete(table), (3,)), torch.rand(2, 3)
    x = p.draw(u)
    assert torch.equal(x.flatten(), Discrete(table).draw(u.flatten()))
    torch.testing.assert_close(p.log_prob(x), Discrete(table).log_prob(x.flatten()).view(2, 3).sum(1))
    torch.testing.assert_close(p.log_probs(x).sum(1), p.log_prob(x))
    assert torch.equal(p.log_pmf(), table.view(2, 3, 3))
    assert torch.equal(p.cdf(x).flatten(), Discrete(table).cdf(x.flatten()))
    assert torch.equal(p.tempered(0).draw(u).flatten(), table.argmax(1))


def test_precisions_add_up():
    q, p, known_q, known_p = gaussians()
    one, other = known_q.variance.reciprocal(), known_p.variance.reciprocal()
    both = weighted(q, p)
    torch.testing.assert_close(both.log_std.exp().square(), 1 / (one + other))
    torch.testing.assert_close(both.mean, (q.mean * one + p.mean * other) / (one + other))
    assert (both.log_std < torch.minimum(q.log_std, p.log_std)).all()


# --- the contract of models with latents


VARIANTS = {
    "mean field": {"posterior": MeanField()},
    "top down": {"posterior": TopDown(), "classes": 3},
    "ladder": {"posterior": Ladder(), "network": Dense(hidden=(8, 6), rectified=True, batch_norm=True)},
    "levels": {"shape": (2, 4), "likelihood": Categorical(5)},
    "densities": {"likelihood": GaussianMixture(2)},
    "conditional prior": {"prior": made(2, classes=3), "classes": 3, "posterior": TopDown()},
}


@pytest.mark.parametrize("arguments", VARIANTS.values(), ids=VARIANTS)
def test_variants_keep_the_contract(arguments):
    check_model(hierarchy(**arguments))


IMAGES = {
    "convolutional ladder": {
        "latents": (2, 3),
        "network": Convolutional(channels=8, strides=(2, 1)),
        "posterior": Ladder(),
    },
    "residual": {"latents": (1, 1, 2), "network": Residual(channels=8, strides=(1, 2, 2)), "posterior": TopDown()},
}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", IMAGES.values(), ids=IMAGES)
def test_layers_of_maps_keep_the_contract(arguments):
    check_model(HierarchicalVAE(shape=(1, 4, 4), **arguments))


def test_a_space_too_large_to_add_up_is_said(monkeypatch):
    layers = Convolutional(channels=4, strides=(2, 2))
    model = HierarchicalVAE(shape=(3, 8, 8), likelihood=Categorical(256), latents=(1, 1), network=layers)
    with pytest.raises(NotApplicable, match=r"no smaller x than \(3, 4, 4\), which can be 2\^76 different ones"):
        is_unbiased(model)


def failures(model):
    return {check.number for check in outcomes(model) if check.status == "failed"}


def test_a_weight_without_the_prior_of_the_top_is_noticed(monkeypatch):
    whole = Infer.log_weight
    monkeypatch.setattr(Infer, "log_weight", lambda self, log_px: whole(self, log_px) - self.p[2].log_prob(self.z[2]))
    assert {2, 11} <= failures(tiny("hierarchical-vae"))


def test_an_elbo_without_the_divergence_of_a_level_is_noticed(monkeypatch):
    terms = HierarchicalVAE.terms

    def fewer(self, *args, **noise):
        found = terms(self, *args, **noise)
        return found._replace(kl=found.kl * torch.tensor([0, 1]))

    monkeypatch.setattr(HierarchicalVAE, "terms", fewer)
    assert 11 in failures(tiny("hierarchical-vae"))


def test_a_divergence_of_variances_taken_for_deviations_is_noticed(monkeypatch):
    right = Gaussian.kl
    halved = lambda g: Gaussian(g.mean, g.log_std / 2)  # noqa: E731
    monkeypatch.setattr(Gaussian, "kl", lambda self, other: right(halved(self), halved(other)))
    assert 11 in failures(tiny("hierarchical-vae"))


def test_a_bound_that_forgets_to_divide_by_the_draws_is_noticed(monkeypatch):
    bound = HierarchicalVAE.log_prob

    def forgetful(self, x, context=None, *, samples=1, **choice):
        return bound(self, x, context, samples=samples, **choice) + math.log(samples)

    monkeypatch.setattr(HierarchicalVAE, "log_prob", forgetful)
    assert failures(tiny("hierarchical-vae")) == {11}


# --- completion


def test_proposals_approach_the_conditional(caplog):
    """Against p(unknown | known) from a long run over latents of the prior."""
    model = hierarchy(shape=(4,), latents=(1, 1), network=Dense(hidden=(1, 1), layers=0)).double()
    with torch.no_grad():
        model.network.out.weight[:, 0] = torch.tensor([2.5, -2.5, 2.5, -2.0])
        set_head(model.network.priors[0], 0.5, 0, 0.9)
        set_head(model.network.posteriors[0], torch.tensor([0.3, -0.3, 0.3, -0.3]), 0, 0.9)
        set_head(model.network.posteriors[1], 0.4, 0, 0.95)
        noise = model.uniforms(20000)
        state = drive(model.descent(20000), Sample(noise))
        points = every_x(2, (4,))
        p = torch.stack([model.log_px(x.expand(20000, -1), state).exp().mean() for x in points])
    known = torch.tensor([False, False, True, True])
    agrees = (points[:, 2] == 0) & (points[:, 3] == 1)
    conditional = p[agrees] / p[agrees].sum()
    x, n = torch.tensor([[0, 0, 0, 1]]), 2000
    with caplog.at_level(logging.INFO, "ancestral"):
        done = model.complete(x.expand(n, -1), known.expand(n, -1), proposals=60)
    assert "effective sample size" in caplog.text
    assert (done[:, 2:] == x[:, 2:]).all()
    got = torch.bincount(2 * done[:, 0] + done[:, 1], minlength=4) / n
    assert (got - conditional).abs().sum() / 2 < 0.05
    ignoring = p.view(4, 4).sum(1)
    assert (ignoring - conditional).abs().sum() / 2 > 0.1, "the test could not tell"


# --- bad input


def test_bad_bounds():
    model = tiny("hierarchical-vae")
    x = model.sample(3)
    for samples in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="samples must be an integer of at least 1, got"):
            model.log_prob(x, samples=samples)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 6\), got examples of \(5,\)"):
        model.log_prob(x[:, :5])
    with pytest.raises(ValueError, match="x must hold levels from 0 to 1, got values from 7 to 7"):
        model.log_prob(torch.full((1, 6), 7))
    with pytest.raises(ValueError, match="log_prob bounds all values together, none alone"):
        model.log_probs(x)


def test_bad_latents():
    model = tiny("hierarchical-vae")
    with pytest.raises(ValueError, match=r"latents\[2\] must have shape \(4, 2\), got \(4, 3\)"):
        model.sample(4, latents={2: torch.zeros(4, 3)})
    with pytest.raises(ValueError, match=r"latents\[1\] must have shape \(4, 3\), got \(1, 3\)"):
        model.sample(4, latents={1: torch.zeros(1, 3)})
    for level in (0, 3, -1):
        with pytest.raises(ValueError, match=f"latents must be of levels 1 to 2, got {level}"):
            model.sample(4, latents={level: torch.zeros(4, 2)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latents": (3,)}, r"must hold 1 width, one for each of latents=\(3,\), got \(8, 6\)"),
        ({"latents": ()}, r"latents must be a tuple of integers, got \(\)"),
        ({"latents": (3, 0)}, "latents must be an integer of at least 1, got 0"),
        ({"prior": made(3)}, r"prior must be of the shape of the top latent, \(2,\), got \(3,\)"),
        ({"prior": made(2, likelihood=Bernoulli())}, "prior must be a continuous autoregressive model, got MADE"),
        ({"prior": made(2, classes=3)}, "prior must not be conditional where the model is not"),
        ({"prior": tiny("hierarchical-vae")}, "prior must be a continuous autoregressive model, got HierarchicalVAE"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        hierarchy(**arguments)


def test_given_latents_are_kept():
    """With all latents given, and the mode of x, there is nothing left to draw."""
    model = randomized(tiny("hierarchical-vae"))
    z = {1: torch.randn(4, 3), 2: torch.randn(4, 2)}
    one, two = (model.sample(4, temperature=0, latents=z) for _ in range(2))
    state = model.network.down(1, None, z[1], None)
    assert torch.equal(one, two)
    assert torch.equal(one, (model.network.observe(state)[:, 0] > 0).long())


@pytest.mark.parametrize("posterior", [MeanField(), BottomUp(), Ladder(), TopDown()], ids=repr)
def test_a_batch_of_none_with_some_values_counted(posterior):
    model, x = hierarchy(posterior=posterior), torch.zeros(0, 6)
    counted = torch.tensor([True, False, True, False, True, True])
    for samples in (1, 3):
        assert model.log_prob(x, counted=counted, samples=samples).shape == (0,)


def test_latents_that_are_no_dict():
    with pytest.raises(ValueError, match=r"a dict of tensors by level, .* got a Tensor"):
        hierarchy().sample(2, latents=torch.zeros(2, 3))
