"""PixelCNN++: what its paper says, beyond the contract of every model."""

import pytest
import torch
import torch.nn.functional as F

from ancestral.causal import Cursor, WeightNorm
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture
from ancestral.models import PixelCNNpp
from ancestral.testing import changed_by, order_of, random_x, randomized
from ancestral.testing.contract import check_field
from ancestral.walk import Observe, Sample, drive


def small(shape=(3, 6, 5), **arguments):
    return PixelCNNpp(**{"shape": shape, "channels": 6, "layers": 1, **arguments})


# --- the architecture


@pytest.mark.parametrize(("channels", "millions"), [(160, 53.66), (192, 77.24)])
def test_parameters_of_the_papers_size(channels, millions):
    with torch.device("meta"):
        model = PixelCNNpp(shape=(3, 32, 32), channels=channels)
    assert model.likelihood == DiscretizedLogisticMixture(256, 10)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


def matrix(layer):
    """G v / |v| as a matrix (taps x in, out), and b."""
    v, g, b = layer.weights.v, layer.weights.g, layer.weights.b
    return g * v / v.square().sum(0).sqrt(), b


def conv(layer, x, size, pad, stride=1):
    weight, bias = matrix(layer)
    kernel = weight.view(*size, -1, len(bias)).permute(3, 2, 0, 1)
    return F.conv2d(F.pad(x, pad), kernel, bias, stride)


def down_shifted(layer, x, size=(2, 3), stride=1):
    return conv(layer, x, size, (size[1] // 2, size[1] // 2, size[0] - 1, 0), stride)


def down_right_shifted(layer, x, size=(2, 2), stride=1):
    return conv(layer, x, size, (size[1] - 1, 0, size[0] - 1, 0), stride)


def deconv(layer, x, columns):
    """A transposed convolution with stride 2, cropped to twice the size."""
    weight, bias = matrix(layer)
    kernel = weight.view(2, columns, x.shape[1], len(bias)).permute(2, 3, 0, 1)
    left = (columns - 1) // 2
    return F.conv_transpose2d(x, kernel, bias, 2)[:, :, : 2 * x.shape[2], left : left + 2 * x.shape[3]]


def celu(x):
    return F.elu(torch.cat([x, -x], 1))


def nin(layer, x):
    weight, bias = matrix(layer)
    return torch.einsum("bchw,co->bohw", x, weight) + bias[:, None, None]


def gated_resnet(x, a, conv_, conv1, conv2, nin_):
    c = conv_(conv1, celu(x))
    if a is not None:
        c = c + nin(nin_, a)
    a, b = conv_(conv2, celu(c)).chunk(2, 1)
    return x + a * b.sigmoid()


def block_u(block, u, a):
    return gated_resnet(u, a, down_shifted, block.conv1_u, block.conv2_u, block.nin_u)


def block_ul(block, ul, a):
    return gated_resnet(ul, a, down_right_shifted, block.ul.conv1, block.ul.conv2, block.nin_ul)


def plain(model, x):
    """The network as the authors wrote it: whole images, two stacks of tensors, outputs of the first layers shifted."""
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    levels = [model.resolutions, model.resolutions.lower.inner, model.resolutions.lower.inner.lower.inner]
    below = lambda y: F.pad(y, (0, 0, 1, 0))[:, :, :-1]  # noqa: E731
    right = lambda y: F.pad(y, (1, 0))[..., :-1]  # noqa: E731
    us = [below(down_shifted(model.first_u, x))]
    uls = [
        below(down_shifted(model.first_above, x, (1, 3))) + right(down_right_shifted(model.first_left, x, (2, 1))),
    ]
    for level in levels:
        for block in level.down:
            us.append(block_u(block, us[-1], None))
            uls.append(block_ul(block, uls[-1], celu(us[-1])))
        if level.lower is not None:
            us.append(down_shifted(level.lower.down_rows, us[-1], stride=2))
            uls.append(down_right_shifted(level.lower.down_cols, uls[-1], stride=2))
    assert len(us) == len(uls) == 3 * len(levels[0].down) + 3
    u, ul = us.pop(), uls.pop()
    for level in reversed(levels):
        if level.lower is not None:
            u, ul = deconv(level.lower.up_rows, u, 3), deconv(level.lower.up_cols, ul, 2)
        for block in level.up:
            u = block_u(block, u, celu(us.pop()))
            ul = block_ul(block, ul, torch.cat([celu(u), celu(uls.pop())], 1))
    assert not us
    assert not uls
    return nin(model.out, F.elu(ul))


@pytest.mark.parametrize("layers", [1, 2])
def test_the_network_is_the_papers(layers):
    """Where sizes divide by four; the biases of the first layers are zero, as the authors shift after adding them."""
    model = randomized(small((3, 8, 12), layers=layers).double().eval())
    with torch.no_grad():
        for layer in (model.first_u, model.first_above, model.first_left):
            layer.weights.b.zero_()
        x = random_x(model, 2)
        expected = plain(model, model.likelihood.scale(x).double())
        torch.testing.assert_close(model(x), expected)


# --- what it sees


@pytest.mark.parametrize("size", [(9, 8), (7, 11)])
def test_the_declared_field_is_seen_at_every_phase(size):
    """Every row and column modulo 4; blind spots, which exist at this depth, are left out of what is declared."""
    models = [randomized(small((1, *size), likelihood=Categorical(4)).double().eval()) for _ in range(4)]
    check_field(models)
    places = order_of(models[0])
    blind = [sum(not models[0].receptive_field(at)[p] for p in places[:i]) for i, at in enumerate(places)]
    assert sum(blind) > 0


def test_channels_of_a_pixel_are_coupled_by_the_head():
    """R sees no channel of its pixel, G sees R, B sees R and G, with a table for each channel, too."""
    for head in (Categorical(4), Bernoulli()):
        model = small((3, 2, 2), likelihood=head).double().eval()
        assert model.likelihood.couples_channels
        places = [(c, 1, 1) for c in range(3)]
        seen = torch.zeros(3, 3, dtype=torch.bool)
        for _ in range(6):
            randomized(model)
            seen |= changed_by(model, random_x(model, 1), None, places)
        assert seen.triu(1).sum() == 3
        assert seen.tril(-1).sum() == 0


def test_the_softmax_over_colours_has_1536_outputs():
    """3 x 256 logits, and as many coefficients of the earlier channels (section 3.3)."""
    assert small((3, 4, 4), likelihood=Categorical(256)).out.weights.b.numel() == 1536
    assert small((1, 4, 4), likelihood=Categorical(256)).out.weights.b.numel() == 256


@pytest.mark.parametrize(("row", "blind"), [(30, 0), (31, 9)])
def test_blind_spots_at_the_papers_depth(row, blind):
    """At 32x32 only odd rows have any, far to the right in the row above and far to the left in the row itself."""
    model = PixelCNNpp(shape=(1, 32, 32), channels=1)
    for col in (0, 31):
        field = model.receptive_field((0, row, col))[0]
        assert 32 * row + col - field.sum() == blind
        assert not field[row, col:].any()
        assert field[: row - 1].all()


# --- initialisation and dropout


def output_moments(model, x):
    """The mean and standard deviation of every weight-normalised output, with the scale of its layer."""
    moments = []

    def look(layer, _, y):
        moments.append((y.mean((0, 2, 3)), y.std((0, 2, 3), correction=0), layer.scale))

    hooks = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, WeightNorm)]
    params = model(x)
    for hook in hooks:
        hook.remove()
    return moments, params


@pytest.mark.parametrize("initialized", [False, True])
def test_activations_at_initialisation_are_of_order_one(initialized):
    """At the paper's depth, with and without the initialisation by data."""
    model = PixelCNNpp(shape=(3, 16, 16), channels=16)
    x = torch.randint(256, (8, 3, 16, 16))
    if initialized:
        model.initialize(x)
    moments, params = output_moments(model.eval(), x)
    layers = [m for m in model.modules() if isinstance(m, WeightNorm)]
    assert len(moments) == len(layers) == 3 + 15 * 5 + 17 * 6 + 8 + 1
    scales = [(std.square().mean().sqrt() / scale).item() for _, std, scale in moments]
    assert all(0.05 < s < 5 for s in scales)
    assert 0.05 < params.std() < 5


def test_initialize_standardises_every_layer():
    model = small(dropout=0.0, likelihood=Categorical(17), classes=3)
    x, classes = torch.randint(17, (16, 3, 6, 5)), torch.arange(16) % 3
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.eval().initialize(x, classes)
    assert not model.training
    hooks = []

    def check(layer, _, y):
        scale = torch.full_like(y[0, :, 0, 0], layer.scale)
        torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros_like(scale), atol=2e-4, rtol=0)
        torch.testing.assert_close(y.std((0, 2, 3), correction=0), scale, atol=0, rtol=1e-3)
        hooks.append(layer)

    for m in model.modules():
        if isinstance(m, WeightNorm):
            m.register_forward_hook(check)
    model(x, classes)
    assert len(set(hooks)) == len(hooks) > 30
    changed = {name.rsplit(".", 1)[1] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"g", "b"}


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 4, 4)])
def test_initialize_on_constant_data_stays_finite(shape):
    model = small(shape, likelihood=Categorical(4))
    x = torch.ones(4, *shape, dtype=torch.long)
    model.initialize(x)
    assert model.log_prob(x).isfinite().all()
    assert all(p.abs().max() < 100 for p in model.parameters())


@pytest.mark.parametrize("initialized", [False, True])
def test_gradients_in_bf16_are_those_of_float32(initialized):
    model = small((3, 8, 8), dropout=0.0)
    x = torch.randint(256, (4, 3, 8, 8))
    if initialized:
        model.initialize(x)
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = -model.log_prob(x).mean()
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert all(g.isfinite().all() for g in gradients)
    assert F.cosine_similarity(*gradients, 0) > 0.98


def test_walks_never_drop_features():
    model = small(likelihood=Categorical(4), dropout=0.9)
    x, noise = torch.randint(4, (2, 3, 6, 5)), torch.rand(2, 3, 6, 5, dtype=torch.float64)
    samples, scores = [], []
    for training in (False, True):
        model.train(training)
        samples.append(drive(model.walk(2), Sample(noise)))
        drive(model.walk(2), source := Observe(x))
        scores.append(source.log_prob())
    assert torch.equal(*samples)
    assert torch.equal(*scores)
    assert not torch.equal(model.log_prob(x), model.log_prob(x)), "in training they are dropped"
    torch.testing.assert_close(model.eval().log_prob(x).detach(), scores[0])


# --- walks


def test_weights_are_folded_once_in_a_walk(monkeypatch):
    model = small((1, 6, 5), likelihood=Bernoulli())
    count, fold = [], WeightNorm.folded
    monkeypatch.setattr(WeightNorm, "folded", lambda self: count.append(self) or fold(self))
    model.sample(1)
    assert len(count) == len(set(count)) == sum(isinstance(m, WeightNorm) for m in model.modules())


def walked(model, x, cursor):
    """All parameters of a walk with a given cursor, (B, P, H, W)."""
    joined = torch.cat([model.likelihood.scale(x), torch.ones_like(x[:, :1])], 1).to(model.dtype)
    above, out = torch.zeros_like(joined[:, :, :1]), []
    for row in range(x.shape[2]):
        features = model.rows(above, None, cursor)
        pixel = torch.zeros_like(joined[:, :, 0, 0])
        for col in range(x.shape[3]):
            out.append(model.cols(pixel, [f[:, :, 0, col] for f in features], cursor))
            pixel = joined[:, :, row, col]
            cursor.next_col()
        above = joined[:, :, row : row + 1]
        cursor.next_row()
    return torch.stack(out, 2).unflatten(2, x.shape[2:])


def memories(cursor):
    """Where the memory of a cursor, and of those of lower resolutions, is."""
    own = [*cursor._rows.values(), *cursor._pixels.values(), *cursor._kept.values()]
    own += [part for bank in cursor._banks.values() for part in bank]
    own += [part for parts in cursor._folded.values() for part in parts]
    return [m.data_ptr() for m in own] + (memories(cursor._coarse) if cursor._coarse is not None else [])


def test_reset_gives_a_new_walk_the_same_memory_and_the_present_weights():
    model, cursor = randomized(small((1, 6, 7), likelihood=Categorical(5)).double().eval()), Cursor()
    x = random_x(model, 2)
    with torch.no_grad():
        torch.testing.assert_close(walked(model, x, cursor), model(x))
        places = memories(cursor)
        randomized(model)
        cursor.reset()
        torch.testing.assert_close(walked(model, x, cursor), model(x))
    assert memories(cursor) == places


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 0}, "layers must be an integer of at least 1, got 0"),
        ({"channels": 0}, "channels must be an integer of at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and less than 1, got 1\.0"),
        ({"shape": (28, 28)}, r"shape must be \(C, H, W\), got \(28, 28\)"),
        ({"classes": 3, "conditioner": torch.nn.Identity()}, "classes and conditioner cannot both be given"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)
