"""PixelVAE: latents under autoregressive decoders, and autoregressive priors over latents."""

import math

import pytest
import torch

from ancestral import data
from ancestral.checkpoint import load, save
from ancestral.cli.settings import build_model
from ancestral.conditioning import Map, OneHot, Vector
from ancestral.latents import BottomUp, Convolutional, Dense, MeanField, Residual, TopDown
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture, GaussianMixture, LogisticMixture
from ancestral.models import MADE, GatedPixelCNN, HierarchicalVAE, PixelCNN, PixelCNNpp, PixelSNAIL, PixelVAE
from ancestral.models.latent import Whole
from ancestral.testing import every_x, random_x, randomized
from ancestral.walk import Fixed, Infer, Joint, Observe, Sample, drive

SMALL = {
    PixelCNN: {"layers": 1, "channels": 6},
    GatedPixelCNN: {"layers": 1, "channels": 6, "kernel_size": 3},
    PixelCNNpp: {"layers": 1, "channels": 6},
    PixelSNAIL: {"layers": 1, "channels": 6, "residual_blocks": 1},
}
TOLD = (Map(channels=3, features=5), Vector(features=4))
PRIORS = (None, MADE(shape=(3,), likelihood=GaussianMixture(2), hidden=(12,)))


BINARY = Bernoulli()


def pixel_vae(kind=GatedPixelCNN, told=TOLD[0], shape=(1, 4, 5), likelihood=BINARY, latents=(4, 3), **arguments):
    """A small model of random parameters, in float64."""
    decoder = kind(shape=shape, likelihood=likelihood, conditioner=told, **SMALL[kind])
    network = Dense(hidden=(9, 8)[: len(latents)], layers=1)
    model = PixelVAE(shape=shape, likelihood=likelihood, latents=latents, network=network, decoder=decoder, **arguments)
    return randomized(model.double().eval())


def without_gradient(model):
    return {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}


def given(z):
    return dict(enumerate(z, 1))


@pytest.mark.parametrize("told", TOLD, ids=["map", "vector"])
@pytest.mark.parametrize("kind", SMALL)
def test_given_latents_the_decoder_is_causal(kind, told):
    """Each value changes log p of later values only; and of all of them together, what the latents do."""
    model = pixel_vae(kind, told)
    x, z = random_x(model, 1), (torch.randn(1, 4).double(), torch.randn(1, 3).double())
    context = model.network.observe(drive(model.descent(1), Fixed(given(z), Sample(model.uniforms(1)))))
    before = model.decoder.log_probs(x, context).flatten()
    for i in range(x.numel()):
        changed = x.flatten().clone()
        changed[i] = 1 - changed[i]
        now = model.decoder.log_probs(changed.view_as(x), context).flatten()
        assert torch.equal(now[:i], before[:i])
        assert now[i] != before[i]
    assert not torch.allclose(model.decoder.log_probs(x, context + 1).flatten(), before)


@pytest.mark.parametrize("told", TOLD, ids=["map", "vector"])
@pytest.mark.parametrize("kind", SMALL)
def test_walked_is_parallel(kind, told):
    """log p(x|z) by the factors of the walk is that of one parallel pass, for the same draw of the posterior."""
    model = pixel_vae(kind, told)
    x, noise = random_x(model, 3), model.uniforms(3)
    walked, drawn = Infer(x, noise), Infer(x, noise)
    assert torch.equal(drive(model.walk(3, x=x), walked), x)
    log_px = model.log_px(x, model.inferred(x, None, drawn))
    torch.testing.assert_close(torch.stack(walked.log_px).sum(0), log_px)
    torch.testing.assert_close(walked.log_weight(log_px), drawn.log_weight(log_px))


@pytest.mark.parametrize("told", TOLD, ids=["map", "vector"])
def test_a_sample_is_drawn_from_what_is_scored(told):
    """With fixed latents, frequencies of all 16 images are the exponentials of log p(x|z)."""
    model = pixel_vae(told=told, shape=(1, 2, 2), latents=(2,))
    z, x = torch.tensor([[0.3, -1.2]]).double(), every_x(2, (1, 2, 2))
    state = drive(model.descent(16), Fixed({1: z.expand(16, -1)}, Sample(model.uniforms(16))))
    p = model.log_px(x, state).exp().detach()
    torch.testing.assert_close(p.sum().item(), 1.0)
    drawn = model.sample(8000, latents={1: z.expand(8000, -1)}).flatten(1)
    share = torch.bincount((drawn * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16) / 8000
    assert ((share - p).abs() < 5 * (p * (1 - p) / 8000).sqrt() + 1e-3).all()


@pytest.mark.parametrize("posterior", [BottomUp(), MeanField(), TopDown()], ids=str)
@pytest.mark.parametrize("prior", PRIORS, ids=["gaussian", "made"])
def test_importance_weights_add_up_to_one_over_a_tiny_space(posterior, prior):
    """The sum over all x of E_q w(x, z) is 1; no single bound is above it."""
    model = pixel_vae(shape=(1, 2, 2), latents=(2, 3), posterior=posterior, prior=prior)
    with torch.no_grad():  # posteriors that are wide enough: weights are bounded
        for head in model.network.posteriors:
            head.weight.mul_(0.3)
            head.bias.copy_(torch.tensor([0.0, 0.4]).repeat_interleave(len(head.bias) // 2))
        for head in [*model.network.priors, *(() if prior is None else prior.layers)]:
            head.weight.mul_(0.3)
            head.bias.zero_()
    x = every_x(2, (1, 2, 2))
    with torch.no_grad():
        weights = torch.cat([model.log_weights(x, times=500) for _ in range(4)]).exp()
        elbo = torch.stack([model.log_prob(x) for _ in range(100)]).mean(0)
    mean, se = weights.mean(0), weights.std(0) / math.sqrt(len(weights))
    assert abs(mean.sum().item() - 1) < 5 * se.square().sum().sqrt().item() + 1e-3
    assert se.square().sum().sqrt() < 0.1
    assert (elbo < (mean + 5 * se).log()).all()


def test_the_bound_of_many_draws_is_tighter():
    model, x = pixel_vae(), torch.randint(2, (40, 1, 4, 5))
    with torch.no_grad():
        bounds = [model.log_prob(x, samples=k).mean().item() for k in (1, 10, 200)]
    assert bounds == sorted(bounds)
    assert not model.exact


def test_several_draws_of_each_example_at_once():
    """Row i of several draws is of example i % B: by one example at a time it is the same, for the same noise."""
    model, x = pixel_vae(), torch.randint(2, (3, 1, 4, 5))
    noise = model.uniforms(6)
    source = Infer(x, noise)
    both = model.log_px(x, model.inferred(x, None, source, times=2))
    for i in range(6):
        alone = Joint(noise.x[i : i + 1], tuple(z[i : i + 1] for z in noise.z))
        one = x[i % 3 : i % 3 + 1]
        torch.testing.assert_close(model.log_px(one, model.inferred(one, None, Infer(one, alone)))[0], both[i])


def test_counted_values_add_up():
    model, x = pixel_vae(), torch.randint(2, (2, 1, 4, 5))
    half = torch.zeros(1, 1, 4, 5, dtype=torch.bool)
    half[..., :2] = True
    state = model.inferred(x, None, Infer(x), times=2)
    parts = model.log_px(x, state, half) + model.log_px(x, state, ~half)
    torch.testing.assert_close(parts, model.log_px(x, state))


@pytest.mark.parametrize("told", TOLD, ids=["map", "vector"])
@pytest.mark.parametrize("prior", PRIORS, ids=["gaussian", "made"])
def test_every_parameter_gets_a_gradient(told, prior):
    model = pixel_vae(told=told, prior=prior)
    model.log_prob(random_x(model, 8)).sum().backward()
    named = dict(model.named_parameters())
    assert not without_gradient(model)
    assert len({id(p) for p in model.parameters()}) == len(named)
    assert sum(name.startswith("decoder.") for name in named) == len(list(model.decoder.parameters()))


def test_classes_reach_x_by_way_of_the_latents():
    prior = MADE(shape=(3,), likelihood=GaussianMixture(2), hidden=(12,), conditioner=OneHot(classes=3))
    model, noise = (
        pixel_vae(classes=3, prior=prior),
        Joint(torch.rand(8, 1, 4, 5), (torch.rand(8, 4), torch.rand(8, 3))),
    )
    x, label = random_x(model, 8), torch.arange(8) % 3
    model.log_prob(x, label, samples=2).sum().backward()
    assert not without_gradient(model)
    drawn = [drive(model.walk(8, torch.full((8,), y)), Sample(noise)) for y in range(3)]
    assert not torch.equal(drawn[0], drawn[1])
    assert model.complete(x, torch.rand(8, 1, 4, 5) < 0.5, label).shape == x.shape
    with pytest.raises(ValueError, match="context must be one for each example, got nothing"):
        model.log_prob(x)


@pytest.mark.parametrize("told", TOLD, ids=["map", "vector"])
def test_a_checkpoint_holds_the_decoder_and_the_prior(told, tmp_path):
    model = pixel_vae(PixelCNNpp, told, likelihood=DiscretizedLogisticMixture(16, 2), prior=PRIORS[1])
    save(model, tmp_path)
    again, x = load(tmp_path), random_x(model, 3)
    assert isinstance(again, PixelVAE)
    assert isinstance(again.decoder, PixelCNNpp)
    assert isinstance(again.prior, MADE)
    bounds = []
    for each in (model, again):
        torch.manual_seed(1)
        bounds.append(each.log_prob(x, samples=3))
    assert torch.equal(*bounds)
    generators = [torch.Generator().manual_seed(2) for _ in range(2)]
    assert torch.equal(*(each.sample(2, generator=g) for each, g in zip((model, again), generators, strict=True)))


def test_the_decoder_is_initialised_by_data_and_latents():
    model = PixelVAE(
        shape=(1, 8, 8),
        likelihood=Categorical(17),
        decoder=PixelCNNpp(
            shape=(1, 8, 8), likelihood=Categorical(17), channels=6, layers=1, conditioner=Map(channels=2)
        ),
    )
    x = torch.randint(3, 9, (16, 1, 8, 8))
    before = {name: p.clone() for name, p in model.decoder.state_dict().items()}
    model.initialize(x)
    assert any(not torch.equal(before[name], p) for name, p in model.decoder.state_dict().items())
    torch.testing.assert_close(model.network.centre, model.likelihood.scale(x).mean(0).flatten())
    assert model.log_prob(x).isfinite().all()


def test_the_default_decoder_sees_few_pixels():
    model = PixelVAE(shape=(3, 16, 16), likelihood=Categorical(4))
    assert 0 < model.receptive_field((0, 15, 15)).sum() < 3 * 256 / 4
    assert model.sample(2).shape == (2, 3, 16, 16)
    assert model.encode(random_x(model, 2)).shape == (2, 32)


def test_latents_take_over_what_the_decoder_does_not_see():
    """Images of one colour, pixels of either: a decoder of few pixels by itself would know the colour only later."""
    torch.manual_seed(0)
    decoder = GatedPixelCNN(shape=(1, 4, 4), layers=1, channels=8, kernel_size=1, conditioner=Map(channels=2))
    model = PixelVAE(shape=(1, 4, 4), latents=(2,), network=Dense(hidden=(16,), layers=1), decoder=decoder)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(150):
        x = torch.randint(2, (32, 1, 1, 1)).expand(-1, -1, 4, 4)
        optimizer.zero_grad()
        (-model.log_prob(x).mean()).backward()
        optimizer.step()
    x = torch.arange(2).view(2, 1, 1, 1).expand(-1, -1, 4, 4)
    with torch.no_grad():
        assert (-model.log_prob(x, samples=200) < 1.0).all()  # log 2 = 0.69 at best
    assert (model.sample(50).flatten(1).float().mean(1) - 0.5).abs().gt(0.4).float().mean() > 0.9


@pytest.mark.parametrize(
    "prior", [MADE(shape=(3,), likelihood=GaussianMixture(3)), MADE(shape=(3,), likelihood=LogisticMixture(2))], ids=str
)
def test_a_prior_of_the_top_latent_learns(prior):
    """What the encoder makes of x is not Gaussian: the autoregressive prior comes to describe it, and its draws do."""
    network = Dense(hidden=(8,), layers=1)
    model = HierarchicalVAE(shape=(6,), latents=(3,), network=network, prior=prior)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    x = torch.tensor([[0.0], [1.0]]).expand(-1, 6).repeat(16, 1)
    first = model.terms(x).elbo().mean().item()
    for _ in range(150):
        optimizer.zero_grad()
        (-model.log_prob(x).mean()).backward()
        optimizer.step()
    assert model.terms(x).elbo().mean().item() > max(first + 1, -1.5)
    source = Infer(x)
    drive(model.walk(32, x=x), source)
    assert isinstance(source.p[1], Whole)
    torch.testing.assert_close(source.kl[1], source.q[1].log_prob(source.z[1]) - source.p[1].log_prob(source.z[1]))
    assert (model.sample(60).float().mean(1) - 0.5).abs().gt(0.3).float().mean() > 0.8


MAPS = {
    "convolutional": (Convolutional(channels=6, strides=(2, 2), layers=1), BottomUp()),
    "residual": (Residual(channels=8, strides=(2, 2)), TopDown()),
}


@pytest.mark.parametrize("told", TOLD, ids=["map", "vector"])
@pytest.mark.parametrize("layers", MAPS)
@pytest.mark.parametrize(
    ("kind", "likelihood"),
    [(GatedPixelCNN, LogisticMixture(2)), (PixelCNN, GaussianMixture(2))],
    ids=["gated", "plain"],
)
def test_latent_maps_under_and_over_image_models(told, layers, kind, likelihood):
    """The prior is an image model of the top latent, 3 channels of 2x2, and is told the class as the layers are."""
    network, posterior = MAPS[layers]
    decoder = GatedPixelCNN(shape=(1, 8, 8), layers=1, channels=6, conditioner=told)
    prior = kind(shape=(3, 2, 2), likelihood=likelihood, layers=1, channels=6, conditioner=OneHot(classes=3))
    arguments = {"network": network, "posterior": posterior, "decoder": decoder, "prior": prior, "classes": 3}
    model = PixelVAE(shape=(1, 8, 8), latents=(2, 3), **arguments).double().eval()
    with torch.no_grad():
        for p in model.parameters():  # what begins with zeros hides what lies before it
            p.add_(torch.randn_like(p), alpha=0.05)
    assert model.network.observe(drive(model.descent(4, 1), Sample(model.uniforms(4)))).shape == (
        (4, 4) if isinstance(told, Vector) else (4, 3, 8, 8)
    )
    x, label = random_x(model, 4), torch.arange(4) % 3
    model.log_prob(x, label, samples=2).sum().backward()
    assert not without_gradient(model)
    noise = model.uniforms(4)
    walked, drawn = Infer(x, noise), Infer(x, noise)
    drive(model.walk(4, label, x), walked)
    log_px = model.log_px(x, model.inferred(x, label, drawn))
    torch.testing.assert_close(torch.stack(walked.log_px).sum(0), log_px)
    torch.testing.assert_close(walked.kl[2], drawn.kl[2])
    assert model.sample(2, 1).shape == (2, 1, 8, 8)


def test_a_prior_says_its_log_likelihood_of_what_it_draws():
    """The factors of a draw of the prior are those of its own walk: whole latents are nothing else."""
    prior = randomized(MADE(shape=(3,), likelihood=GaussianMixture(2), hidden=(12,)).double())
    whole = Whole(prior, None)
    z = whole.draw(torch.rand(5, 3, dtype=torch.float64))
    source = Observe(z)
    drive(prior.walk(5), source)
    torch.testing.assert_close(whole.log_prob(z), source.log_prob())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoder": Dense()}, "decoder must be an autoregressive model, got Dense"),
        ({"decoder": HierarchicalVAE(shape=(1, 4, 4))}, "decoder must be an autoregressive model, got HierarchicalVAE"),
        (
            {"decoder": GatedPixelCNN(shape=(1, 4, 5), layers=1)},
            r"decoder must have the shape of the model, \(1, 4, 4\), got \(1, 4, 5\)",
        ),
        (
            {"decoder": GatedPixelCNN(shape=(1, 4, 4), layers=1, likelihood=Categorical(3))},
            r"decoder must have the likelihood of the model, Bernoulli\(\), got Categorical",
        ),
        ({"decoder": GatedPixelCNN(shape=(1, 4, 4), layers=1)}, r"the conditioner Map\(channels=F\) or .*, got none"),
        ({"decoder": GatedPixelCNN(shape=(1, 4, 4), layers=1, classes=3)}, "or Vector.*, got OneHot"),
        (
            {"decoder": GatedPixelCNN(shape=(1, 4, 4), layers=1, conditioner=Map(channels=2, upsample=2))},
            "or Vector.*, got Map.upsample=2",
        ),
        ({"shape": (16,)}, r"shape must be \(C, H, W\), got \(16,\)"),
        ({"latents": (4, 2)}, "must hold 2 widths"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        PixelVAE(**{"shape": (1, 4, 4), **arguments})
    assert "\n" not in str(error.value)


def test_channels_coupled_by_the_decoder():
    """A softmax of RGB is coupled in the head of PixelCNN++; what the model was built with is what it records."""
    model = pixel_vae(PixelCNNpp, shape=(3, 4, 4), likelihood=Categorical(3))
    assert model.likelihood.couples_channels
    assert model.arguments["likelihood"] == Categorical(3)
    assert model.log_prob(random_x(model, 2)).isfinite().all()


def test_a_decoder_is_named_on_the_command_line():
    """It is of the data, with the likelihood of the model wherever that is set."""
    digits = data.load("digits")
    settings = ["decoder=PixelCNN(layers=1, channels=4, conditioner=Vector(features=3))", "classes=null"]
    model = build_model("pixel-vae", digits, [*settings, "likelihood=DiscretizedLogisticMixture(components=2)"])
    assert isinstance(model, PixelVAE)
    assert isinstance(model.decoder, PixelCNN)
    assert model.decoder.shape == (1, 8, 8)
    assert model.decoder.likelihood == model.likelihood == DiscretizedLogisticMixture(17, 2)
    assert isinstance(model.decoder.conditioner, Vector)
    assert model.conditioner is None
    told = build_model("pixel-vae", digits, ["decoder=GatedPixelCNN(layers=1)"])
    assert isinstance(told.decoder.conditioner, Map)
    assert isinstance(told.conditioner, OneHot)
    assert told.log_prob(*digits.batch("test", torch.arange(2))).isfinite().all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "--set decoder=3: it takes a name, or .* such as GatedPixelCNN"),
        ("PixelCN", "unknown decoder 'PixelCN' .did you mean 'PixelCNN'"),
        ("HierarchicalVAE", "unknown decoder 'HierarchicalVAE'"),
        ("PixelCNN(layer=2)", "decoder PixelCNN has no argument 'layer' .did you mean 'layers'"),
        ("PixelCNN(layers=two)", "decoder PixelCNN: layers=two: it takes an integer"),
        ("PixelCNN(classes=2)", "decoder PixelCNN has no argument 'classes'"),
        ("PixelCNN(conditioner=OneHot(3))", "unknown conditioner 'OneHot'; there are Map, Vector"),
        ("PixelCNN(conditioner=Vector)", "conditioner: Vector: missing .* 'features'"),
    ],
)
def test_wrong_decoders_on_the_command_line(text, message):
    with pytest.raises(ValueError, match=message) as error:
        build_model("pixel-vae", data.load("digits"), [f"decoder={text}"])
    assert "\n" not in str(error.value)
