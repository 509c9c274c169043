"""PixelSNAIL: what its paper says, beyond the contract of every model."""

import itertools
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ancestral.causal import Cursor, WeightNorm, attention
from ancestral.causal.attention import CausalAttention, one_step_late, step_of
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture
from ancestral.machine import free_memory, number_in
from ancestral.models import PixelSNAIL
from ancestral.models.pixelsnail import background
from ancestral.testing import changed_by, order_of, random_x, randomized
from ancestral.walk import Observe, drive, with_ones


def small(shape=(3, 6, 5), **arguments):
    return PixelSNAIL(**{"shape": shape, "channels": 6, "layers": 2, "residual_blocks": 1, "keys": 3, **arguments})


# --- the architecture


@pytest.mark.parametrize(("residual_blocks", "millions"), [(4, 91.7), (5, 110.6)])
def test_parameters_of_the_papers_size(residual_blocks, millions):
    with torch.device("meta"):
        model = PixelSNAIL(shape=(3, 32, 32), channels=256, layers=12, residual_blocks=residual_blocks)
    assert model.likelihood == DiscretizedLogisticMixture(256, 10)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


def conv(layer, x, size=(1, 1), pad=(0, 0, 0, 0)):
    """A convolution with the weights g v / |v| and b of a layer."""
    v, g, b = layer.weights.v, layer.weights.g, layer.weights.b
    kernel = (g * v / v.square().sum(0).sqrt()).view(*size, -1, len(b)).permute(3, 2, 0, 1)
    return F.conv2d(F.pad(x, pad), kernel, b)


def nin(layer, x):
    return conv(layer, x)


def down_right_shifted(layer, x):
    return conv(layer, x, (2, 2), (1, 0, 1, 0))


def celu(x):
    return F.elu(torch.cat([x, -x], 1))


def gated_resnet(block, x, conv_, c=0):
    """`c` is the share of the shortcut."""
    c = conv_(block.conv1, celu(x)) + c
    a, b = conv_(block.conv2, celu(c)).chunk(2, 1)
    return x + a * b.sigmoid()


def attended(q, kv, keys):
    """Attention as the paper says it: position t, over the keys and values of positions before t."""
    q, kv = q.flatten(2).mT, kv.flatten(2).mT
    out = torch.zeros(len(q), q.shape[1], kv.shape[2] - keys, dtype=q.dtype)
    for t in range(1, q.shape[1]):
        logits = torch.einsum("bd,bsd->bs", q[:, t], kv[:, :t, :keys]) / keys**0.5
        out[:, t] = torch.einsum("bs,bsv->bv", logits.softmax(1), kv[:, :t, keys:])
    return out.mT


def plain(model, x):
    """The network as the authors wrote it: whole images, nothing late, outputs of the first layers shifted."""
    batch, colours, height, width = x.shape
    row = ((torch.arange(height).double() - height / 2) / height)[:, None].expand(height, width)
    col = ((torch.arange(width).double() - width / 2) / width).expand(height, width)
    ground = torch.stack([row] * colours + [col] * colours).expand(batch, -1, -1, -1)
    joined = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    above = conv(model.first_above, joined, (1, 3), (1, 1, 0, 0))
    left = conv(model.first_left, joined, (2, 1), (0, 0, 1, 0))
    u = F.pad(above, (0, 0, 1, 0))[:, :, :-1] + F.pad(left, (1, 0))[..., :-1]
    blocks = iter(model.residuals)
    for group in model.attentions:
        for block in itertools.islice(blocks, len(model.residuals) // len(model.attentions)):
            u = gated_resnet(block, u, down_right_shifted)
        kv = nin(group.to_content, gated_resnet(group.content, torch.cat([x, u, ground], 1), nin))
        q = nin(group.to_query, gated_resnet(group.query, torch.cat([u, ground], 1), nin))
        mixed = attended(q, kv, group.attention.keys).unflatten(2, (height, width))
        u = gated_resnet(group.merge, u, nin, nin(group.shortcut, celu(mixed)))
    return nin(model.out, F.elu(u))


@pytest.mark.parametrize(("layers", "residual_blocks"), [(1, 1), (2, 2)])
def test_the_network_is_the_papers(layers, residual_blocks):
    """The biases of the first layers are zero here, as the authors shift after adding them."""
    model = randomized(small((3, 5, 7), layers=layers, residual_blocks=residual_blocks).double().eval())
    with torch.no_grad():
        for layer in (model.first_above, model.first_left):
            layer.weights.b.zero_()
        x = random_x(model, 2)
        torch.testing.assert_close(model(x), plain(model, model.likelihood.scale(x).double()))


def test_every_earlier_pixel_is_seen_and_the_far_ones_through_attention_only():
    """2x2 convolutions look one column to the right at most: the first one does."""
    model = randomized(small((1, 5, 9), layers=1, residual_blocks=2, likelihood=Bernoulli()).double().eval())
    places = order_of(model)
    at = places.index((0, 3, 2))
    seen = changed_by(model, random_x(model, 1), None, places)[:, at]
    assert seen.nonzero().flatten().tolist() == [*range(at), at]  # itself: its own log p
    with torch.no_grad():
        for block in model.attentions:
            block.shortcut.weights.g.zero_()
    seen = changed_by(model, random_x(model, 1), None, places)[:, at]
    far = [i for i, (_, _, col) in enumerate(places[:at]) if col > 2 + 1]
    assert not seen[far].any()
    assert seen[:at].sum() > 8


def test_nothing_is_mixed_into_the_first_pixel():
    model = randomized(small().double().eval())
    mixed = []
    for block in model.attentions:
        block.shortcut.register_forward_hook(lambda _m, given, _out: mixed.append(given[0]))
    model.log_prob(random_x(model, 2))
    assert len(mixed) == 2
    assert all((m[:, :, 0, 0] == 0).all() and (m.flatten(2)[:, :, 1:] != 0).any(1).all() for m in mixed)


@pytest.mark.parametrize("size", [1, 2, 49, 98])
def test_background_has_a_row_and_a_column_for_each_pixel(size):
    """A float range makes one too many at 49 and 98 (FAULTS of public code)."""
    ground = background(with_ones(torch.zeros(2, 3, size, 3)), None)
    assert ground.shape == (2, 12, size, 3)
    rows, cols, late_rows, late_cols = ground.unflatten(1, (4, 3)).unbind(1)
    torch.testing.assert_close(rows[0, 0, :, 0], torch.linspace(-0.5, 0.5 - 1 / size, size))
    torch.testing.assert_close(cols[1, 2, 0], torch.tensor([-0.5, -1 / 6, 1 / 6]))
    for here, late in ((rows, late_rows), (cols, late_cols)):
        assert torch.equal(late.flatten(2)[..., 1:], here.flatten(2)[..., :-1])


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


# --- initialisation, dropout, half precision


@pytest.mark.parametrize("initialized", [False, True])
def test_activations_at_initialisation_are_of_order_one(initialized):
    """At the paper's depth, 48 residual and 12 attention blocks, with and without the initialisation by data."""
    model = PixelSNAIL(shape=(3, 10, 10), channels=16, layers=12)
    x = torch.randint(256, (6, 3, 10, 10))
    if initialized:
        model.initialize(x)
    layers = [m for m in model.modules() if isinstance(m, WeightNorm)]
    scales = []
    for layer in layers:
        layer.register_forward_hook(lambda m, _, y: scales.append((y.square().mean().sqrt() / m.scale).item()))
    params = model.eval()(x)
    assert len(scales) == len(layers) == 2 + 48 * 2 + 12 * 9 + 1
    assert all(0.05 < s < 5 for s in scales)
    assert 0.05 < params.std() < 5


def test_initialize_standardises_every_layer():
    model = small(likelihood=Categorical(17), classes=3)
    x, classes = torch.randint(17, (16, 3, 6, 5)), torch.arange(16) % 3
    model.eval().initialize(x, classes)
    assert not model.training
    seen = []

    def check(layer, _, y):
        scale = torch.full_like(y[0, :, 0, 0], layer.scale)
        torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros_like(scale), atol=2e-4, rtol=0)
        torch.testing.assert_close(y.std((0, 2, 3), correction=0), scale, atol=0, rtol=1e-3)
        seen.append(layer)

    layers = [m for m in model.modules() if isinstance(m, WeightNorm)]
    for layer in layers:
        layer.register_forward_hook(check)
    model(x, classes)
    assert len(set(seen)) == len(seen) == len(layers)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 4, 4)])
def test_initialize_on_constant_data_stays_finite(shape):
    model = small(shape, likelihood=Categorical(4))
    x = torch.ones(4, *shape, dtype=torch.long)
    model.initialize(x)
    assert model.log_prob(x).isfinite().all()
    assert all(p.abs().max() < 100 for p in model.parameters())


@pytest.mark.parametrize("initialized", [False, True])
def test_gradients_in_bf16_are_those_of_float32(initialized):
    model = small((3, 8, 8))
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
    model = small(likelihood=Categorical(4), dropout=0.5)
    x = random_x(model, 3)
    model.train()
    assert not torch.equal(model.log_prob(x), model.log_prob(x))
    drive(model.walk(3), source := Observe(x))
    torch.testing.assert_close(source.log_prob(), model.eval().log_prob(x).detach())


# --- attention by itself


@pytest.mark.parametrize("at_once", [1, 40, 10**6])
def test_attention_sees_strictly_earlier_positions(at_once, monkeypatch):
    monkeypatch.setattr(attention, "AT_ONCE", at_once)
    q, kv = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 3 + 6, 4, 5).double()
    layer = CausalAttention(3)
    found = layer(q, one_step_late(layer, kv)).flatten(2)
    torch.testing.assert_close(found, attended(q, kv, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_attention_in_half_precision_is_finite(dtype):
    """The first position, that has nothing to see, as well."""
    q, kv = torch.randn(2, 3, 4, 5).to(dtype), torch.randn(2, 3 + 6, 4, 5).to(dtype)
    layer = CausalAttention(3)
    found = layer(q, one_step_late(layer, kv)).flatten(2)
    torch.testing.assert_close(found.double(), attended(q.double(), kv.double(), 3), atol=0.05, rtol=0.05)


def test_attention_step_by_step_equals_the_whole():
    q, kv = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 3 + 6, 4, 5).double()
    layer, late, cursor = CausalAttention(3), torch.nn.Identity(), Cursor(size=(4, 5))
    walked = torch.zeros(2, 6, 4, 5).double()
    for row, col in itertools.product(range(4), range(5)):
        here = one_step_late(late, kv[..., row, col], cursor)
        walked[..., row, col] = layer(q[..., row, col], here, cursor, step_of(cursor, q.dtype))
        cursor.next_col()
        if col == 4:
            cursor.next_row()
    torch.testing.assert_close(walked, layer(q, one_step_late(late, kv)))


# --- memory


@pytest.mark.parametrize("shape", [(1, 32, 32), (1, 8, 128)])
def test_too_many_positions_are_refused_in_training(shape, monkeypatch):
    """Training keeps T x T weights for every layer, evaluation only a part of them at a time."""
    model = small(shape, likelihood=Bernoulli())
    needed = 1.25 * 3 * 1024 * (2 * (1024 + 42 * 6 + 40) + 2) * 4  # batch, T, layers, T and what else is kept, bytes
    x = torch.zeros(3, *shape, dtype=torch.long)
    monkeypatch.setattr(attention, "free_memory", lambda device: needed - 1)
    with pytest.raises(ValueError, match=r"attention over 1024 positions needs about 0\.0 GiB for"):
        model.log_prob(x)
    with torch.no_grad():
        assert model.log_prob(x).isfinite().all()
    monkeypatch.setattr(attention, "free_memory", lambda device: needed)
    assert model.log_prob(x).isfinite().all()


def test_a_walk_that_cannot_remember_is_refused(monkeypatch):
    model = small((1, 32, 32), likelihood=Bernoulli())
    monkeypatch.setattr(attention, "free_memory", lambda device: 1.25 * 2 * 1024 * 10 * (3 + 3) * 4 - 1)
    assert model.sample(1, shape=(1, 4, 4)).shape == (1, 1, 4, 4)
    with pytest.raises(ValueError, match="take a smaller batch or smaller images"):
        model.sample(10)


@pytest.mark.parametrize("shape", [(1, 24, 24), (3, 8, 8)])
@pytest.mark.parametrize("head", [Bernoulli(), DiscretizedLogisticMixture(256), Categorical(256)])
def test_the_estimate_holds_what_training_keeps(shape, head):
    model = small(shape, likelihood=head)
    x, kept = torch.zeros(4, *shape, dtype=torch.long), {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        log_p = model.log_prob(x)
    estimate = attention.MORE * 4 * shape[1] * shape[2] * model.bytes_kept(shape[1] * shape[2])
    assert 0.15 * estimate < sum(kept.values()) < estimate
    assert log_p.requires_grad


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="no /proc/meminfo to read")
def test_memory_of_this_machine_is_known():
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50


def test_numbers_in_files_of_the_system(tmp_path):
    file = tmp_path / "memory"
    file.write_text("cache 5\nanon 123\n")
    assert number_in(str(file), "anon") == 123
    assert number_in(str(file), "swap") == math.inf
    assert number_in(str(tmp_path / "none")) == math.inf
    file.write_text("max\n")
    assert number_in(str(file)) == math.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 0}, "layers must be an integer of at least 1, got 0"),
        ({"residual_blocks": 0}, "residual_blocks must be an integer of at least 1, got 0"),
        ({"keys": 0}, "keys must be an integer of at least 1, got 0"),
        ({"channels": 1}, "channels must be an integer of at least 2, got 1"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and less than 1, got 1\.0"),
        ({"shape": (28, 28)}, r"shape must be \(C, H, W\), got \(28, 28\)"),
        ({"classes": 0}, "classes must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)
