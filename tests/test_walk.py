"""The engine: sources, completion by proposals, sequences, compiled steps."""

import logging
import math

import pytest
import torch

from ancestral.conditioning import Map, Vector
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture
from ancestral.models import MADE, MODELS, GatedPixelCNN
from ancestral.testing import every_x, randomized, tiny
from ancestral.walk import Factor, Observe, Sample, drive, shift_right

EXACT = [name for name in MODELS if MODELS[name].exact]  # of models with latents: tests/test_latents.py


def spaces():
    return [(name, {"made": (6,), "wavenet": (1, 6)}.get(name, (1, 2, 3))) for name in EXACT]


def probabilities(model):
    x = every_x(model.likelihood.levels, model.shape)
    with torch.no_grad():
        return x, model.log_prob(x).exp()


def index_of(x, levels):
    return (x.flatten(1) * levels ** torch.arange(x[0].numel() - 1, -1, -1)).sum(1)


def chi_square(samples, p, levels):
    """Pearson's statistic in standard deviations of its distribution."""
    counts = torch.bincount(index_of(samples, levels), minlength=len(p)).double()
    expected = p * len(samples)
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = len(p) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize(("name", "shape"), spaces())
def test_frequencies_of_samples_match_enumerated_probabilities(name, shape):
    model = randomized(tiny(name, shape=shape).double())
    _, p = probabilities(model)
    assert chi_square(model.sample(20000), p, 2) < 5


@pytest.mark.parametrize(("name", "shape"), spaces())
def test_temperature_zero_gives_the_mode_of_every_factor(name, shape):
    model = randomized(tiny(name, shape=shape, likelihood=Categorical(3)).double())
    sample = model.sample(1, temperature=0)
    greedy = []

    def mode(factor: Factor) -> torch.Tensor:
        greedy.append(factor.p.log_pmf().argmax(-1))
        return greedy[-1]

    assert torch.equal(drive(model.walk(1), mode), sample)
    assert torch.equal(model.sample(1, temperature=1e-8), sample)


@pytest.mark.parametrize("name", MODELS)
def test_samples_are_valid_levels(name):
    model = randomized(tiny(name, likelihood=DiscretizedLogisticMixture(5, 2)))
    x = model.sample(16)
    assert x.dtype == torch.int64
    assert x.shape == (16, *model.shape)
    assert 0 <= x.min() <= x.max() <= 4
    assert model.log_prob(x).isfinite().all()


@pytest.mark.parametrize("name", EXACT)
def test_observe_keeps_what_it_saw(name):
    model = tiny(name)
    x = model.sample(3)
    source = Observe(x)
    drive(model.walk(3), source)
    assert len(source.log_probs) == math.prod(model.shape)
    assert all(log_p.shape == (3,) for log_p in source.log_probs)
    torch.testing.assert_close(source.log_prob(), model.log_prob(x).detach())


def test_the_walk_leaves_gradients_as_they_were():
    model = tiny("gated-pixelcnn")
    walk = model.walk(1)
    factor = next(walk)
    assert torch.is_grad_enabled()
    assert not factor.p.log_pmf().requires_grad
    walk.close()


@pytest.mark.parametrize("name", MODELS)
def test_the_same_generator_gives_the_same_sample(name):
    model = tiny(name)
    one, two = (model.sample(2, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, model.sample(2, generator=torch.Generator().manual_seed(6)))


IMAGES = [name for name in EXACT if name not in ("made", "wavenet")]


@pytest.mark.parametrize("name", IMAGES)
def test_any_size_at_call_time(name):
    model = tiny(name, shape=(1, 8, 8))
    for shape in ((1, 1, 1), (1, 3, 11), (1, 13, 2)):
        x = model.sample(2, shape=shape)
        assert x.shape == (2, *shape)
        source = Observe(x)
        drive(model.walk(2, shape=shape), source)
        torch.testing.assert_close(source.log_prob(), model.log_prob(x).detach())


# --- completion


def late_known(model):
    """Known values at the end, unknown ones before: the hard case for a fixed order."""
    known = torch.zeros(1, *model.shape, dtype=torch.bool)
    known.flatten(1)[0, -2:] = True
    x = torch.zeros(1, *model.shape, dtype=torch.long)
    x.flatten(1)[0, -1] = 1
    return x, known


@pytest.mark.parametrize(("name", "shape"), spaces())
def test_one_proposal_says_what_it_ignores(name, shape, caplog):
    model = tiny(name, shape=shape)
    x, known = late_known(model)
    with caplog.at_level(logging.WARNING, "ancestral"):
        model.complete(x, known)
    assert "not taken into account" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "ancestral"):
        model.complete(x, ~known)  # known values first
    assert not caplog.text
    with caplog.at_level(logging.WARNING, "ancestral"):
        model.complete(x, ~known, proposals=3)
    assert "nothing is known after what is drawn: proposals change nothing" in caplog.text
    assert "effective" not in caplog.text


# what random parameters are multiplied by: late values matter, and yet many proposals agree (ReLUs do not saturate)
SHARPNESS = {"pixelcnn": 0.8, "row-lstm": 1, "diagonal-bilstm": 1, "multi-scale-pixelrnn": 1, "wavenet": 1}
SHARPNESS |= {"pixelcnn++": 4, "pixelsnail": 7}  # normalised weights do not change


@pytest.mark.parametrize(("name", "shape"), spaces())
def test_proposals_approach_the_conditional(name, shape, caplog):
    """With many proposals completions follow p(unknown | known), late known values included."""
    model = randomized(tiny(name, shape=shape).double())
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(SHARPNESS.get(name, 2))
    x, known = late_known(model)
    points, p = probabilities(model)
    agrees = (points == x).flatten(1)[:, known.flatten()].all(1)
    n = 4000
    with caplog.at_level(logging.INFO, "ancestral"):
        done = model.complete(x.expand(n, *model.shape), known.expand(n, *model.shape), proposals=30)
    assert "effective sample size" in caplog.text
    free = ~known.flatten()
    got = torch.bincount(index_of(done.flatten(1)[:, free], 2), minlength=int(agrees.sum())) / n
    conditional = p[agrees] / p[agrees].sum()
    assert (got - conditional).abs().sum() / 2 < 0.05
    ignoring = torch.zeros_like(conditional).index_add_(0, index_of(points.flatten(1)[:, free], 2), p)
    assert (ignoring - conditional).abs().sum() / 2 > 0.05, "the test could not tell"


def test_completion_refuses():
    model = tiny("gated-pixelcnn", shape=(1, 2, 3))
    x = torch.zeros(2, 1, 2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="known must be a bool tensor of the shape of x"):
        model.complete(x, torch.ones(2, 1, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="known must be a bool tensor"):
        model.complete(x, torch.ones_like(x))
    with pytest.raises(ValueError, match="x must hold levels from 0 to 1, got values from 7 to 7"):
        model.complete(x + 7, torch.ones_like(x, dtype=torch.bool))


def test_unknown_values_may_be_anything():
    model = tiny("gated-pixelcnn", shape=(1, 2, 3))
    x = torch.full((1, 1, 2, 3), -99)
    x[0, 0, 0] = 1
    done = model.complete(x, x >= 0)
    assert done[0, 0, 0].tolist() == [1, 1, 1]


# --- bad input


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x + 2, "x must hold levels from 0 to 1, got values from 2"),
        (lambda x: x - 1, "x must hold levels from 0 to 1, got values from -1"),
        (lambda x: x * 0.5 + 0.1, "x must hold whole levels from 0 to 1, got fractions; do not scale the data"),
        (lambda x: x * float("nan"), "x must be finite, got NaN or infinity"),
        (lambda x: x[0], r"x must have shape \(B, "),
    ],
)
def test_bad_x(name, wrong, message):
    model = tiny(name)
    with pytest.raises(ValueError, match=message):
        model.log_prob(wrong(model.sample(4)))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("wrong", [256, "Categorical", Bernoulli])
def test_bad_likelihood(name, wrong):
    with pytest.raises(ValueError, match="likelihood must be one such as Bernoulli"):
        tiny(name, likelihood=wrong)


@pytest.mark.parametrize("name", IMAGES)
def test_bad_images(name):
    for shape in ((1, 4.5, 4), (1, True, 4), ("1", "4", "4"), (1, 0, 4)):
        with pytest.raises(ValueError, match="shape must be an integer of at least 1"):
            tiny(name, shape=shape)
    model = tiny(name)
    for shape in ((1, 0, 4), (1, 4, 0)):
        with pytest.raises(ValueError, match=r"x must have shape \(B, 1, H, W\), H and W at least 1"):
            model.log_prob(torch.zeros(2, *shape, dtype=torch.long))
        with pytest.raises(ValueError, match="shape must be an integer of at least 1"):
            model.sample(2, shape=shape)
    with pytest.raises(ValueError, match=r"shape must be \(1, H, W\), got \(3, 4, 4\)"):
        model.sample(2, shape=(3, 4, 4))


def test_bad_context():
    plain, conditional = tiny("gated-pixelcnn"), tiny("gated-pixelcnn", classes=3)
    x = plain.sample(2)
    with pytest.raises(ValueError, match="context must be none: the model is unconditional"):
        plain.log_prob(x, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="context must be one for each example, got nothing"):
        conditional.sample(2)
    with pytest.raises(ValueError, match="context must hold classes from 0 to 2, got 3"):
        conditional.log_prob(x, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="context must hold 2 examples, got 3"):
        conditional.log_prob(x, torch.tensor([0, 1, 2]))
    assert conditional.sample(4, 1).shape == (4, 1, 4, 5)


def test_contexts_that_are_maps_or_vectors():
    vector = GatedPixelCNN(shape=(1, 4, 4), channels=4, layers=1, conditioner=Vector(features=3))
    assert vector.sample(2, torch.randn(3)).shape == (2, 1, 4, 4)
    mapped = GatedPixelCNN(shape=(1, 4, 4), channels=4, layers=1, conditioner=Map(channels=1))
    for size in ((5, 5), (6, 4), (1, 4), (3, 4)):
        with pytest.raises(ValueError, match="context must be a map for images of 4x4, got one of"):
            mapped.sample(2, torch.randn(2, 1, *size))
    half = GatedPixelCNN(shape=(1, 5, 3), channels=4, layers=1, conditioner=Map(channels=1, upsample=2))
    assert half.sample(2, torch.randn(2, 1, 3, 2)).shape == (2, 1, 5, 3)
    with pytest.raises(ValueError, match=r"conditioner must give vectors \(B, F\) to a MADE"):
        MADE(shape=(4,), conditioner=Map(channels=1)).sample(1, torch.randn(1, 1, 2, 2))


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_none(name):
    model = tiny(name)
    assert model.sample(0).shape == (0, *model.shape)
    assert model.log_prob(model.sample(0)).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.int8, torch.bool])
def test_any_integer_type(dtype):
    model = tiny("gated-pixelcnn")
    x = model.sample(2)
    assert torch.equal(model.log_prob(x.to(dtype)), model.log_prob(x))


def test_shift_right_is_one_step():
    assert shift_right(torch.arange(3.0).view(1, 1, 1, 3)).flatten().tolist() == [0, 0, 1]


# --- compiled steps


PHASES = {"pixelcnn++": 3}  # whether a pixel of half, and of a quarter of the resolution begins here


@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 5, 6)], ids=["grey", "rgb"])
@pytest.mark.parametrize("name", IMAGES)
def test_a_step_is_one_graph_whatever_the_size(name, shape):
    """fullgraph=True traces rows and cols without a break; their number does not grow with the image."""
    counts = {}
    for size in (shape, (shape[0], 7, 9)):
        model = tiny(name, shape=size)
        graphs = {"rows": 0, "cols": 0}

        def counting(part, graphs=graphs):
            def backend(module, inputs):
                graphs[part] += 1
                return module.forward

            return backend

        expected = model.sample(2, generator=torch.Generator().manual_seed(0))
        networks = [getattr(model, part) for part in ("small", "large") if hasattr(model, part)] or [model]
        for net in networks:
            steps = {"rows": lambda *a, rows=net.rows: list(rows(*a)), "cols": net.cols}
            for part, step in steps.items():
                compiled = torch.compile(step, fullgraph=True, dynamic=False, backend=counting(part))
                setattr(net, part, compiled)
        assert torch.equal(model.sample(2, generator=torch.Generator().manual_seed(0)), expected)
        counts[size] = graphs
        torch.compiler.reset()
    assert len({str(c) for c in counts.values()}) == 1, counts
    phases = PHASES.get(name, 1) + 1  # one more where memory is made: the eager warm step
    assert counts[shape]["rows"] <= phases * len(networks)
    assert counts[shape]["cols"] <= phases * networks[0].groups * len(networks)


def test_sources_never_touch_the_model():
    """A source needs a factor's p and at, nothing else."""
    p = next(Bernoulli().walk(torch.zeros(2, 1), 1))
    noise = torch.tensor([[0.2], [0.8]])
    assert Sample(noise)(Factor(p, (0,))).tolist() == [0, 1]
