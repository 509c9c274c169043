"""Gated PixelCNN: what its paper says, beyond the contract of every model."""

import pytest
import torch

from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture
from ancestral.models import GatedPixelCNN
from ancestral.testing import changed_by, order_of, random_x, randomized


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16)])
def test_activations_at_initialisation_are_of_order_one(shape):
    """At the paper's depth: a residual added twice grows them to thousands (FAULTS of public code)."""
    model = GatedPixelCNN(shape=shape, likelihood=Categorical(256), channels=48, layers=20)
    scales = []
    for block in model.blocks:
        block.mix.register_forward_hook(lambda _m, _i, out: scales.append(out.std().item()))
    params = model(torch.randint(256, (4, *shape)))
    assert len(scales) == 20
    assert all(0.05 < s < 5 for s in scales)
    assert 0.01 < params.std() < 5


@pytest.mark.parametrize("layers", [1, 4, 8])
def test_no_blind_spot_at_any_depth(layers):
    """Every earlier pixel within reach is seen: with kernel 3 and L layers, 3 + L rows up and columns aside."""
    model = randomized(GatedPixelCNN(shape=(1, 9, 15), channels=8, layers=layers, kernel_size=3).double())
    places = order_of(model)
    seen = torch.zeros(len(places), len(places), dtype=torch.bool)
    for _ in range(3):
        randomized(model)
        seen |= changed_by(model, random_x(model, 1), None, places)
    at = places.index((0, 8, 7))
    reach = 3 + layers
    for i, (_, row, col) in enumerate(places[:at]):
        within = 8 - row <= reach and abs(col - 7) <= reach
        assert bool(seen[i, at]) == within, (row, col)


def test_channels_are_causal_within_a_pixel():
    """R sees no channel of its pixel, G sees R, B sees R and G (1601.06759, section 2.2)."""
    model = randomized(GatedPixelCNN(shape=(3, 2, 2), likelihood=Categorical(4), channels=12, layers=2).double())
    places = [(c, 1, 1) for c in range(3)]
    seen = torch.zeros(3, 3, dtype=torch.bool)
    for _ in range(6):
        randomized(model)
        seen |= changed_by(model, random_x(model, 1), None, places)
    assert seen.triu(1).sum() == 3
    assert seen.tril(-1).sum() == 0


@pytest.mark.parametrize("levels", [2, 17])
def test_untrained_likelihood_with_zero_output_is_uniform(levels):
    head = Bernoulli() if levels == 2 else Categorical(levels)
    model = GatedPixelCNN(shape=(1, 5, 5), likelihood=head, channels=8, layers=2)
    with torch.no_grad():
        model.out.weight.zero_()
    x = torch.randint(levels, (3, 1, 5, 5))
    torch.testing.assert_close(model.log_prob(x), torch.full((3,), -25 * torch.tensor(float(levels)).log().item()))


def test_data_of_any_integer_type_is_the_same():
    model = GatedPixelCNN(shape=(1, 4, 4), likelihood=DiscretizedLogisticMixture(256, 2), channels=8, layers=1)
    x = torch.randint(256, (2, 1, 4, 4))
    for dtype in (torch.uint8, torch.int16, torch.int32, torch.float32, torch.float64):
        torch.testing.assert_close(model.log_prob(x.to(dtype)), model.log_prob(x))


def test_the_masks_are_never_written_into_the_weights():
    model = GatedPixelCNN(shape=(3, 4, 4), likelihood=Categorical(4), channels=6, layers=1)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.1)
    model.log_prob(torch.zeros(1, 3, 4, 4)).sum().backward()
    assert all((p == 0.1).all() for p in model.parameters())
    assert "mask" not in "".join(model.state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (3, 4, 4), "channels": 16}, "channels must be divisible by 3, the channel groups, got 16"),
        ({"kernel_size": 4}, "kernel_size must be an odd integer of at least [13], got 4"),
        ({"layers": 0}, "layers must be an integer of at least 1, got 0"),
        ({"shape": (28, 28)}, r"shape must be \(C, H, W\), got \(28, 28\)"),
        ({"conditioner": torch.nn.Linear(1, 1)}, "conditioner must say its `features`"),
        ({"classes": 0}, "classes must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GatedPixelCNN(**{"shape": (1, 4, 4), **arguments})
