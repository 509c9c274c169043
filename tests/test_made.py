"""MADE: orders, masks, completion; beyond the contract of every model."""

import logging

import pytest
import torch

from ancestral.causal.linear import draw_degrees
from ancestral.likelihoods import Bernoulli, Categorical
from ancestral.models import MADE
from ancestral.testing import every_x, randomized


def test_the_product_of_the_masks_is_strictly_lower_triangular():
    degrees = draw_degrees(torch.randperm(9), (40, 40), torch.Generator())
    product = torch.eye(9)
    for mask in degrees.masks():
        product = mask.float() @ product
    in_order = product[degrees.order.argsort()][:, degrees.order.argsort()]
    assert (in_order.triu() == 0).all()
    assert (in_order.tril(-1) > 0).sum() >= 30


def test_no_hidden_unit_is_useless():
    """Degrees are at least the smallest of the layer below, and at most D - 1 (section 4.1)."""
    for seed in range(20):
        degrees = draw_degrees(torch.arange(5), (6, 50), torch.Generator().manual_seed(seed))
        assert 1 <= degrees.hidden[0].min()
        assert degrees.hidden[0].min() <= degrees.hidden[1].min()
        assert max(d.max() for d in degrees.hidden) <= 4


def test_the_first_variable_is_only_a_bias():
    model = randomized(MADE(shape=(4,), hidden=(10,)))
    params = model(torch.randint(2, (5, 4)))
    torch.testing.assert_close(params[:, 0, 0], model.layers[-1].bias[0].expand(5))


def test_masks_survive_many_passes_and_steps_of_an_optimiser():
    model = MADE(shape=(6,), hidden=(20,), masks=3, order_agnostic=True, connectivity_agnostic=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    count = [(layer.weight != 0).sum() for layer in model.layers]
    for step in range(8):
        optimizer.zero_grad()
        (-model.log_prob(torch.randint(2, (4, 6)), mask=step).mean()).backward()
        optimizer.step()
    assert [(layer.weight != 0).sum() for layer in model.layers] == count
    assert sorted(model.state_dict()) == ["layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight"]


def test_masks_cycle_and_are_drawn_from_the_seed():
    cycle = MADE(shape=(8,), hidden=(9,), masks=3, order_agnostic=True, seed=4)
    again = MADE(shape=(8,), hidden=(9,), masks=3, order_agnostic=True, seed=4)
    orders = [cycle.degrees(i).order for i in range(7)]
    assert len({tuple(o.tolist()) for o in orders}) == 3
    assert torch.equal(orders[0], orders[3])
    assert all(torch.equal(again.degrees(i).order, o) for i, o in enumerate(orders))
    assert torch.equal(cycle.degrees(0).hidden[0], cycle.degrees(1).hidden[0])  # connectivity stays
    endless = MADE(shape=(8,), hidden=(9,), masks=None, connectivity_agnostic=True)
    assert len({tuple(endless.degrees(i).hidden[0].tolist()) for i in range(20)}) == 20
    assert torch.equal(endless.degrees(7).order, torch.arange(8))
    assert cycle.resampled(5) == {"mask": 5}
    assert MADE(shape=(8,)).resampled(5) == {}


def test_every_mask_is_a_distribution_of_its_own():
    model = randomized(MADE(shape=(4,), hidden=(30,), masks=5, order_agnostic=True).double())
    x = every_x(2, (4,))
    with torch.no_grad():
        each = torch.stack([model.log_prob(x, mask=m).exp() for m in range(5)])
    torch.testing.assert_close(each.sum(1), torch.ones(5, dtype=torch.float64))
    assert (each.std(0) > 1e-3).any()


def conditional(model, degrees, x, known):
    points = every_x(2, model.shape)
    points = points[(points == x)[:, known].all(1)]
    with torch.no_grad():
        p = model.log_prob(points, mask=degrees).exp()
    return points, p / p.sum()


@pytest.mark.parametrize("mask", [[0, 0, 1, 0, 1], [1, 0, 0, 1, 0], [0, 1, 1, 1, 1]])
def test_an_order_agnostic_made_completes_any_mask_exactly(mask, caplog):
    model = randomized(MADE(shape=(5,), hidden=(30,), masks=None, order_agnostic=True).double())
    known = torch.tensor(mask, dtype=torch.bool)
    x = torch.tensor([1, 0, 1, 1, 0])
    degrees = model._order_for(known)
    assert set(degrees.order[known].tolist()) == set(range(int(known.sum())))
    n = 6000
    with caplog.at_level(logging.WARNING, "ancestral"):
        done = model.complete(x.expand(n, 5), known.expand(n, 5))
    assert not caplog.text
    points, p = conditional(model, degrees, x, known)
    got = torch.stack([(done == point).all(1).double().mean() for point in points])
    assert got.sum().item() == pytest.approx(1)
    assert (got - p).abs().max() < 0.03


def test_examples_are_grouped_by_equal_masks(monkeypatch):
    model = MADE(shape=(5,), hidden=(30,), masks=None, order_agnostic=True)
    x = torch.randint(2, (40, 5))
    known = torch.rand(40, 5) < 0.5
    orders = []
    monkeypatch.setattr(MADE, "_order_for", lambda self, known: orders.append(known) or self.degrees(0))
    done = model.complete(x, known)
    assert torch.equal(done[known], x[known])
    assert len(orders) == len(known.unique(dim=0))


def test_an_untrained_order_is_reported(caplog):
    model = MADE(shape=(6,), hidden=(9,), masks=2, order_agnostic=True)
    trained = model.degrees(1).order < 3  # the first three of a trained order
    with caplog.at_level(logging.WARNING, "ancestral"):
        model.complete(torch.zeros(1, 6), trained[None])
    assert not caplog.text
    untrained = torch.zeros(1, 6, dtype=torch.bool)
    untrained[0, int(model.degrees(0).order.argmax())] = True
    untrained[0, int(model.degrees(1).order.argmax())] = True
    with caplog.at_level(logging.WARNING, "ancestral"):
        model.complete(torch.zeros(1, 6), untrained)
    assert "none of the 2 trained orders has the known variables first; this one is untrained" in caplog.text


def test_categories_have_no_order():
    """Exchanging two categories of the data and of the weights changes nothing: inputs are one-hot."""
    model = randomized(MADE(shape=(3,), likelihood=Categorical(4), hidden=(12,)))
    x = torch.randint(4, (8, 3))
    swap = torch.tensor([2, 1, 0, 3])
    before = model.log_prob(x)
    with torch.no_grad():
        model.layers[0].weight.copy_(model.layers[0].weight.unflatten(1, (3, 4))[:, :, swap].flatten(1))
        for p in (model.layers[1].weight, model.layers[1].bias):
            p.copy_(p.unflatten(0, (3, 4))[:, swap].flatten(0, 1))
    torch.testing.assert_close(model.log_prob(swap[x]), before)


def test_conditioning_weights_depend_on_the_mask_only():
    """A unit whose inputs are masked knows it: its offset differs from that under another mask, for equal weights."""
    model = randomized(MADE(shape=(5,), hidden=(10,), conditioning_weights=True, masks=2, connectivity_agnostic=True))
    (one, _), _ = model.connections(0)
    (other, _), _ = model.connections(1)
    same = (one == other).all(1)
    offsets = [model.layers[0].offset(mask) for mask in (one, other)]
    assert same.any()
    assert not same.all()
    assert torch.equal(offsets[0][same], offsets[1][same])
    assert (offsets[0][~same] != offsets[1][~same]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"masks": 4}, "masks=4 needs order_agnostic=True or connectivity_agnostic=True: all would be alike"),
        ({"masks": 0, "order_agnostic": True}, "masks must be an integer of at least 1, got 0"),
        ({"hidden": 8}, "hidden must be a tuple of integers, got 8"),
        ({"shape": (0,)}, "shape must be an integer of at least 1, got 0"),
        ({"hidden": (0,)}, "hidden must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MADE(**{"shape": (4,), "likelihood": Bernoulli(), **arguments})


def test_a_made_has_one_size():
    with pytest.raises(ValueError, match=r"x must have shape \(B, 4\), got examples of \(5,\)"):
        MADE(shape=(4,)).log_prob(torch.zeros(1, 5))
    with pytest.raises(ValueError, match="x must have shape"):
        MADE(shape=(4,)).sample(1, shape=(5,))
