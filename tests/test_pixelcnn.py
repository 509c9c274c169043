"""PixelCNN: what its paper says, beyond the contract of every model."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from ancestral.causal import Cursor, MaskedConv2d, begin_row
from ancestral.likelihoods import Categorical
from ancestral.models import GatedPixelCNN, PixelCNN
from ancestral.testing import changed_by, order_of, random_x, randomized


def masked(shape, kernel_size, own):
    """Which features (c, i, j) of a layer read which of the layer below, as the paper's masks say: (out, in).

    `own(c, below)` says whether group c reads that group at its own pixel: mask A or mask B.
    """
    places = list(itertools.product(*map(range, shape)))
    reads = torch.zeros(len(places), len(places))
    for out, (c, i, j) in enumerate(places):
        for into, (below, row, col) in enumerate(places):
            near = max(abs(row - i), abs(col - j)) <= kernel_size // 2
            earlier = (row, col) < (i, j)
            reads[out, into] = near and (earlier or ((row, col) == (i, j) and own(c, below)))
    return reads


@pytest.mark.parametrize("layers", [1, 2, 7])
@pytest.mark.parametrize(("shape", "kernel_size"), [((1, 9, 13), 3), ((1, 11, 8), 5), ((3, 5, 7), 3), ((1, 1, 1), 3)])
def test_receptive_field_is_that_of_stacked_masks(shape, kernel_size, layers):
    reads = masked(shape, 7, lambda c, below: below < c)
    block = masked(shape, kernel_size, lambda c, below: below <= c)
    for _ in range(layers):
        reads = ((block @ reads) > 0).float()
    model = PixelCNN(shape=shape, channels=3, layers=layers, kernel_size=kernel_size)
    for place, seen in zip(itertools.product(*map(range, shape)), reads, strict=True):
        assert torch.equal(model.receptive_field(place), seen.view(shape).bool()), place


@pytest.mark.parametrize("layers", [1, 4])
def test_the_network_sees_its_receptive_field_and_no_more(layers):
    model = PixelCNN(shape=(1, 9, 17), channels=8, layers=layers).double()
    places = order_of(model)
    seen = torch.zeros(len(places), len(places), dtype=torch.bool)
    for _ in range(4):
        randomized(model)
        seen |= changed_by(model, random_x(model, 1), None, places)
    seen.fill_diagonal_(False)
    for at in ((0, 8, 5), (0, 8, 0), (0, 4, 16)):
        assert torch.equal(seen[:, places.index(at)].view(model.shape), model.receptive_field(at)), at


def test_the_blind_spot():
    """At the paper's depth 18 rows above, 37 columns, and on the right one column more for each row above."""
    model = PixelCNN(shape=(1, 28, 61), channels=3, layers=15)
    field = model.receptive_field((0, 27, 30))[0]
    rows, cols = field.nonzero().unbind(1)
    assert 27 - rows.min() == 18
    assert cols.max() - cols.min() + 1 == 37
    right = [field[27 - up].nonzero().max().item() - 30 for up in range(1, 19)]
    assert right == [*range(3, 18), 18, 18, 18]


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16)])
def test_activations_at_initialisation_are_of_order_one(shape):
    """At the paper's depth: a residual added twice grows them to thousands (FAULTS of public code)."""
    model = PixelCNN(shape=shape, likelihood=Categorical(256), channels=48)
    scales = []
    for block in model.blocks:
        block.register_forward_hook(lambda _m, _i, out: scales.append(out.std().item()))
    params = model(torch.randint(256, (4, *shape)))
    assert len(scales) == 15
    assert all(0.05 < s < 5 for s in scales)
    assert 0.01 < params.std() < 5


def test_parameters_of_the_papers_network():
    """Binarized MNIST with h = 128: counted layer by layer (mask A: 24 taps of the image and of the ones)."""
    model = PixelCNN(shape=(1, 28, 28), channels=128, final_channels=32)
    h, taps = 128, 3 * 7 + 3
    first = taps * 2 * 2 * h + 2 * h
    block = (2 * h * h + h) + (5 * h * h + h) + h * 2 * h
    last = (2 * h * 32 + 32) + (32 * 32 + 32) + (32 + 1)
    assert sum(p.numel() for p in model.parameters()) == first + 15 * block + last


# --- the masked convolution by itself


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("reach", [(1, 1, 1), (1, 1, 0), (2, 2, 2), (2, 1, 3), (1, 0, 0), (3, 0, 2)], ids=str)
def test_row_by_row_and_pixel_by_pixel_equal_the_whole(reach, groups):
    torch.manual_seed(1)
    layers = [randomized_layer(6, 9, reach, groups) for _ in range(2)]
    x = torch.randn(2, 2, 6, 4, 5, dtype=torch.float64)  # (layer, B, C, H, W)
    cursor, walked = Cursor(), torch.zeros(2, 2, 9, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        for row in range(4):
            above = begin_row(layers, x[0, :, :, row : row + 1], cursor)
            for col, cursor.group in itertools.product(range(5), range(groups)):
                g = cursor.group
                for i, (layer, plus) in enumerate(zip(layers, above, strict=True)):
                    own = slice(3 * g, 3 * g + 3) if groups == 3 else slice(None)
                    given = x[i, :, :, row, col].chunk(groups, 1)[g]
                    walked[i, :, own, row, col] = layer(given, cursor, plus[:, own, 0, col])
                if g == groups - 1:
                    cursor.next_col()
            cursor.next_row()
        whole = torch.stack([layer(own) for layer, own in zip(layers, x, strict=True)])
    torch.testing.assert_close(walked, whole)


def randomized_layer(channels, out, reach, groups):
    layer = MaskedConv2d(channels, out, reach, groups).double()
    torch.nn.init.normal_(layer.bias)
    return layer


def test_it_is_a_convolution_under_mask_b():
    layer = MaskedConv2d(2, 3, (1, 1, 1)).double()
    kernel = torch.zeros(3, 2, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        kernel[:, :, 0] = layer.above.view(3, 2, 3).permute(2, 1, 0)
        kernel[:, :, 1, :2] = layer.row.view(2, 2, 3).permute(2, 1, 0)
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.conv2d(x, kernel, padding=1))


def test_the_masks_are_never_written_into_the_weights():
    model = PixelCNN(shape=(3, 4, 4), likelihood=Categorical(4), channels=6, layers=1)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.1)
    model.log_prob(torch.zeros(1, 3, 4, 4)).sum().backward()
    assert all((p == 0.1).all() for p in model.parameters())
    assert "mask." not in "".join(f"{key}." for key in model.state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (3, 4, 4), "channels": 16}, "channels must be divisible by 3, the channel groups, got 16"),
        (
            {"shape": (3, 4, 4), "final_channels": 32},
            "final_channels must be divisible by 3, the channel groups, got 32",
        ),
        ({"kernel_size": 4}, "kernel_size must be an odd integer of at least [13], got 4"),
        ({"kernel_size": 1}, "kernel_size must be an odd integer of at least 3, got 1"),
        ({"layers": 0}, "layers must be an integer of at least 1, got 0"),
        ({"shape": (28, 28)}, r"shape must be \(C, H, W\), got \(28, 28\)"),
        ({"classes": 0}, "classes must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PixelCNN(**{"shape": (1, 4, 4), "channels": 6, **arguments})


@pytest.mark.parametrize("kind", [PixelCNN, GatedPixelCNN])
def test_gradients_in_bf16_are_those_of_float32(kind):
    """At the papers' depths, which are the defaults: 15 blocks and 20 layers."""
    model = kind(shape=(3, 8, 8), likelihood=Categorical(16), channels=12)
    x, gradients = torch.randint(16, (4, 3, 8, 8)), []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = -model.log_prob(x).mean()
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    assert all(g.isfinite().all() for g in gradients)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99
