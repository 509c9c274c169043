"""Layers of feature maps between images and latents: `Convolutional`, and `Residual` as its paper says."""

import math

import pytest
import torch
import torch.nn.functional as F

from ancestral.checkpoint import load, save
from ancestral.distributions import Gaussian
from ancestral.latents import BottomUp, Convolutional, Dense, Ladder, MeanField, Residual, TopDown
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture
from ancestral.models import HierarchicalVAE
from ancestral.walk import Fixed, Infer, Sample, drive

POSTERIORS = [MeanField(), BottomUp(), Ladder(), TopDown()]
PAIRS = [*((Convolutional(6), posterior) for posterior in POSTERIORS), (Residual(8), TopDown())]
NAMES = [f"{type(network).__name__}-{type(posterior).__name__}" for network, posterior in PAIRS]
every_pair = pytest.mark.parametrize(("network", "posterior"), PAIRS, ids=NAMES)


def small(network, posterior=None, shape=(2, 8, 4), latents=(3, 2), **arguments):
    posterior = posterior or TopDown()
    return HierarchicalVAE(shape=shape, latents=latents, network=network, posterior=posterior, **arguments)


def stirred(model):
    """Move parameters away from the zeros that some begin with."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.double()


def pictures(model, batch=3):
    return torch.randint(model.likelihood.levels, (batch, *model.shape))


def listened(walk, source):
    """The factors of a walk."""
    factors = []

    def heard(factor):
        factors.append(factor)
        return source(factor)

    drive(walk, heard)
    return factors


# --- sizes


SIZES = [
    (Convolutional(4, strides=(2, 2)), (1, 28, 28), (3, 5), [(3, 14, 14), (5, 7, 7)]),
    (Convolutional(4, strides=(2, 2, 7), layers=0), (1, 28, 28), (3, 5, 2), [(3, 14, 14), (5, 7, 7), (2, 1, 1)]),
    (Convolutional(4, strides=(4,), kernel_size=5, layers=2), (3, 8, 4), (3,), [(3, 2, 1)]),
    (Convolutional(4, strides=(1, 1)), (1, 5, 3), (3, 5), [(3, 5, 3), (5, 5, 3)]),
    (Convolutional(4, strides=(3, 1, 2)), (1, 6, 12), (1, 2, 3), [(1, 2, 4), (2, 2, 4), (3, 1, 2)]),
    (Residual(4, strides=(2, 1, 2, 1, 7)), (1, 28, 28), (16,) * 5, [(16, s, s) for s in (14, 14, 7, 7, 1)]),
    (Residual(4, strides=(1, 1), blocks=(0,)), (1, 5, 3), (3, 5), [(3, 5, 3), (5, 5, 3)]),
    (Residual(4, strides=(1, 3, 2)), (3, 6, 12), (1, 2, 3), [(1, 6, 12), (2, 2, 4), (3, 1, 2)]),
    (Residual(2, strides=(1, 2)), (1, 2, 130), (1, 1), [(1, 2, 130), (1, 1, 65)]),
]


@pytest.mark.parametrize(("network", "shape", "latents", "shapes"), SIZES)
def test_a_level_lies_at_the_size_of_x_over_the_strides_below_it(network, shape, latents, shapes):
    model = small(network, shape=shape, latents=latents)
    x = pictures(model, 2)
    assert [tuple(z.shape[1:]) for z in model.infer(x)] == shapes == list(model.network.shapes)
    assert model.log_prob(x).shape == (2,)
    assert model.sample(2).shape == x.shape


def test_what_sides_must_be_a_multiple_of():
    assert [Dense().multiple, Convolutional(strides=(2, 3)).multiple, Residual(strides=(2, 1, 2, 1, 7)).multiple] == [
        1,
        6,
        28,
    ]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: small(Convolutional(strides=(2,))), r"strides must have 2 factors, one for each level .* got \(2,\)"),
        (
            lambda: small(Convolutional(strides=(2, 2, 2)), shape=(1, 28, 28), latents=(1, 1, 1)),
            r"28x28 becomes 14x14, then 7x7, which 2 does not divide: there 1 or 7 would do, or sides that 8 divides",
        ),
        (lambda: small(Residual(), shape=(1, 5, 3)), "x is 5x3, which 2 does not divide: there 1 would do"),
        (lambda: small(Residual(), shape=(8,)), r"Residual is for images \(C, H, W\), got shape \(8,\): Dense takes"),
        (lambda: small(Residual(), Ladder()), r"posterior must be TopDown\(\) where .* Residual, got Ladder\(\)"),
        (lambda: Convolutional(kernel_size=4), "kernel_size must be an odd integer of at least 1, got 4"),
        (lambda: Convolutional(strides=2), "strides must be a tuple of integers, got 2"),
        (lambda: Residual(strides=(2, 0)), "strides must be an integer of at least 1, got 0"),
        (lambda: Residual(channels=0), "channels must be an integer of at least 1, got 0"),
        (lambda: small(Residual(strides=(2, 1), blocks=(1, 1))), r"blocks must have 1 counts, .*, got \(1, 1\)"),
        (lambda: Residual(blocks=2), "blocks must be a tuple of integers, got 2"),
        (lambda: Residual(blocks=(1, -1)), "blocks must be an integer of at least 0, got -1"),
        (lambda: Convolutional(layers=-1), "layers must be an integer of at least 0, got -1"),
    ],
)
def test_errors_say_what_would_do(build, words):
    with pytest.raises(ValueError, match=words) as error:
        build()
    assert "\n" not in str(error.value)


# --- what both must be


@every_pair
@pytest.mark.parametrize("classes", [None, 3])
def test_gradients_reach_every_parameter(network, posterior, classes):
    model = stirred(small(network, posterior, classes=classes))
    context = None if classes is None else torch.tensor([0, 1, 2])
    model.log_prob(pictures(model), context).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_pair
def test_examples_and_draws_are_independent(network, posterior):
    model = stirred(small(network, posterior, classes=3))
    x, context = pictures(model), torch.tensor([2, 0, 1])
    noise = model.uniforms(6)
    source = Infer(x, noise)
    state = model.inferred(x, context, source, 2)
    together = source.log_weight(model.log_px(x, state))
    for i in range(6):
        one = Infer(x[i % 3, None], type(noise)(noise.x[i, None], tuple(u[i, None] for u in noise.z)))
        alone = model.inferred(x[i % 3, None], context[i % 3, None], one)
        torch.testing.assert_close(one.log_weight(model.log_px(x[i % 3, None], alone))[0], together[i])


@every_pair
def test_several_draws_and_classes(network, posterior):
    model = stirred(small(network, posterior, classes=3)).eval()
    x = pictures(model, 1).expand(3, -1, -1, -1)
    with torch.no_grad():
        assert model.log_prob(x, torch.tensor([0, 1, 2]), samples=5).shape == (3,)
    z = {level: torch.zeros(3, *shape).double() for level, shape in enumerate(model.network.shapes, 1)}
    state = drive(model.descent(3, torch.tensor([0, 1, 1])), Fixed(z, Infer(x)))
    for told in (model.encode(x, torch.tensor([0, 1, 1])), model.network.observe(state)):
        torch.testing.assert_close(told[1], told[2])
        assert not torch.allclose(told[0], told[1])


@every_pair
def test_sampling_and_training_go_through_the_same_network(network, posterior):
    model = stirred(small(network, posterior))
    x = pictures(model)
    source = Infer(x)
    state = model.inferred(x, None, source)
    factors = listened(model.descent(3), Fixed(source.z, Infer(x)))
    assert [factor.at for factor in factors] == [("z", 2), ("z", 1)]
    for factor in factors:
        p = source.p[factor.at[1]]
        assert torch.equal(factor.p.mean, p.mean)
        assert torch.equal(factor.p.log_std, p.log_std)
    again = drive(model.descent(3), Fixed(source.z, Infer(x)))
    assert torch.equal(model.network.observe(again), model.network.observe(state))


@pytest.mark.parametrize("network", [Convolutional(6, strides=(2, 1, 2)), Residual(8, strides=(2, 1, 2))])
def test_what_a_latent_depends_on(network):
    """Of the state of `Residual` all levels above are part; the levels of `Convolutional` are a chain."""
    model = stirred(small(network, latents=(2, 3, 4)))
    z = {level: torch.randn(2, *shape).double() for level, shape in enumerate(model.network.shapes, 1)}
    z[3][1], z[2][1], z[1][1] = z[3][0] + 1, z[2][0], z[1][0]
    factors = {f.at[1]: f for f in listened(model.descent(2), Fixed(z, Sample(torch.zeros(0))))}
    state = drive(model.descent(2), Fixed(z, Sample(torch.zeros(0))))
    changed = [not torch.equal(*factors[level].p.mean) for level in (1, 2, 3)]
    assert changed == [isinstance(network, Residual), True, False]
    assert (not torch.equal(*model.network.observe(state))) is isinstance(network, Residual)


@every_pair
def test_priors_begin_without_parents(network, posterior):
    model = small(network, posterior)
    source = Infer(pictures(model))
    model.inferred(source.x, None, source)
    for level in (1, 2):
        zeros = torch.zeros_like(source.p[level].mean)
        assert torch.equal(source.p[level].mean, zeros)
        std = zeros.exp() if level == 2 or posterior != Ladder() else F.softplus(zeros).sqrt()
        torch.testing.assert_close(source.p[level].log_std.exp(), std)
        if posterior in (MeanField(), TopDown()):
            kl = source.q[level].kl(Gaussian(zeros, zeros)).flatten(1).sum(1)
            torch.testing.assert_close(source.kl[level], kl)


@every_pair
def test_data_say_where_to_begin(network, posterior):
    model = small(network, posterior, likelihood=Categorical(3))
    x = pictures(model, 50).clamp(max=1)
    model.initialize(x)
    torch.testing.assert_close(model.network.centre, x.float().mean(0) - 1)
    of_mean = model.network.up(1, model.network.centre[None], None)
    shares = F.one_hot(x, 3).float().mean(0).clamp(min=0.001).log().mean((1, 2))
    torch.testing.assert_close(model.network.out.bias, shares.flatten())
    model.network.centre.zero_()
    torch.testing.assert_close(model.network.up(1, model.network.centre[None], None), of_mean)


@every_pair
def test_saved_and_loaded(network, posterior, tmp_path):
    model = stirred(small(network, posterior, classes=2))
    x, context = pictures(model), torch.tensor([0, 1, 1])
    model.initialize(x)
    save(model, tmp_path)
    again = load(tmp_path)
    assert again.arguments["network"] == network
    torch.manual_seed(1)
    bound = model.log_prob(x, context)
    torch.manual_seed(1)
    assert torch.equal(again.log_prob(x, context), bound)


@every_pair
def test_a_few_steps_lower_the_loss(network, posterior):
    """Below what independent pixels have, of pictures that are one of two: latents must say which."""
    model = small(network, posterior, shape=(1, 8, 8), likelihood=Bernoulli())
    two = torch.stack([torch.arange(8) % 2, torch.arange(8) % 4 // 2])[:, None, :, None].expand(-1, -1, -1, 8)
    x = two[torch.arange(16) % 2]
    model.initialize(x)
    independent = torch.special.entr(torch.stack([x.float().mean(0), 1 - x.float().mean(0)])).sum()
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.02 if network == Residual(8) else 0.005), []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(-model.log_prob(x).mean())
        losses[-1].backward()
        optimizer.step()
    assert torch.stack(losses[-10:]).mean() < 0.8 * independent


# --- Residual, as in 2011.10650


def block(module, x):
    h = x
    for layer in (module.c1, module.c2, module.c3, module.c4):
        h = F.conv2d(F.gelu(h), layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)
    return h


def test_residual_is_the_papers_network():
    """Levels 1 and 2 at the size of x, 3 at half of it: step by step, from the features of the encoder to p(x|z)."""
    model = stirred(small(Residual(8, strides=(1, 1, 2)), shape=(2, 6, 4), latents=(3, 2, 4)))
    net, x = model.network, pictures(model)
    source = Infer(x)
    state = model.inferred(x, None, source)

    acts = {6: F.conv2d(model.likelihood.scale(x).double(), net.first.weight, net.first.bias, padding=1)}
    for b in net.encoder[0]:
        acts[6] = acts[6] + block(b, acts[6])
    down, pool, last = net.encoder[2]
    acts[3] = F.avg_pool2d(acts[6] + block(down, acts[6]), pool.kernel_size)
    acts[3] = acts[3] + block(last, acts[3])
    assert len(net.encoder[0]) == 2
    assert len(net.encoder[1]) == 0

    h = net.start.expand(3, -1, -1, -1)
    for number in (3, 2, 1):
        level, variables = net.levels[number - 1], model.network.shapes[number - 1][0]
        q = block(level.enc, torch.cat([h, acts[h.shape[2]]], 1))
        p_mean, p_log_std, more = block(level.prior, h).split([variables, variables, 8], 1)
        torch.testing.assert_close(torch.cat([source.q[number].mean, source.q[number].log_std], 1), q)
        torch.testing.assert_close(source.p[number].mean, p_mean)
        torch.testing.assert_close(source.p[number].log_std, p_log_std)
        h = h + more + F.conv2d(source.z[number], level.z_proj.weight, level.z_proj.bias)
        h = h + block(level.block, h)
        if number == 3:
            h = net.mixins[2].bias + h.repeat_interleave(2, 2).repeat_interleave(2, 3)
    params = F.conv2d(h * net.gain + net.bias, net.out.weight, net.out.bias)
    torch.testing.assert_close(net.observe(state), params)


def test_parameters_of_the_papers_size():
    """CIFAR-10: 39 million; blocks of the decoder 1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21."""
    strides = (*(1,) * 22, 2, *(1,) * 10, 2, *(1,) * 5, 2, *(1,) * 2, 4)
    network = Residual(384, strides, blocks=(11, 6, 6, 3, 3))
    with torch.device("meta"):
        model = small(
            network, shape=(3, 32, 32), latents=(16,) * 43, likelihood=DiscretizedLogisticMixture(256, components=10)
        )
    assert sum(p.numel() for p in model.parameters()) // 10**6 == 39


def test_residual_blocks_have_a_quarter_of_the_channels_and_no_neighbours_in_maps_of_two():
    net = small(Residual(16, strides=(2, 2, 2, 2)), shape=(1, 16, 16), latents=(1,) * 4).network
    assert [level.prior.c2.kernel_size[0] for level in net.levels] == [3, 3, 1, 1]
    assert {tuple(level.enc.c3.weight.shape[:2]) for level in net.levels} == {(4, 4)}


@pytest.mark.parametrize("depth", [1, 9])
def test_what_is_added_to_the_state_begins_with_the_root_of_one_over_the_depth(depth):
    net = small(Residual(64, strides=(2, *(1,) * (depth - 1))), latents=(64,) * depth).network
    for level in net.levels:
        for layer, inputs in ((level.z_proj, 64), (level.block.c4, 16)):
            most = layer.weight.abs().max() * math.sqrt(inputs * depth)  # torch draws up to the root of 1 / inputs
            assert 0.95 < most <= 1


def test_large_maps_have_one_bias_for_all_positions():
    net = small(Residual(2, strides=(1, 2)), shape=(1, 2, 130), latents=(1, 1)).network
    assert net.start.shape == net.mixins[1].bias.shape == (2, 1, 1)
    assert small(Residual(2)).network.start.shape == (2, 2, 1)
