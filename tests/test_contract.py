"""Every model keeps the contract, in every variant; and the contract notices when a model does not."""

import functools

import pytest
import torch

import ancestral.causal.conv
import ancestral.causal.cursor
import ancestral.likelihoods
import ancestral.models.made
import ancestral.walk
from ancestral import conditioning, likelihoods
from ancestral.causal import Cursor
from ancestral.causal.linear import Degrees
from ancestral.models import (
    MADE,
    MODELS,
    DiagonalBiLSTM,
    GatedPixelCNN,
    MultiScalePixelRNN,
    PixelCNN,
    PixelCNNpp,
    PixelSNAIL,
    RowLSTM,
)
from ancestral.testing import check_model, outcomes, tiny

DISCRETE = {
    "binary": likelihoods.Bernoulli(),
    "grey17": likelihoods.Categorical(17),
    "grey256": likelihoods.Categorical(256),
    "mixture256": likelihoods.DiscretizedLogisticMixture(256, 3),
    "mixture16bit": likelihoods.DiscretizedLogisticMixture(65536, 2),
}
CONTINUOUS = {"logistic": likelihoods.LogisticMixture(3), "gaussian": likelihoods.GaussianMixture(2)}
ALL = DISCRETE | CONTINUOUS


@pytest.mark.parametrize("name", MODELS)
def test_tiny(name):
    results = check_model(tiny(name))
    assert [r.number for r in results] == list(range(1, 12))
    inapplicable = {11} if MODELS[name].exact else {1} if name == "hierarchical-vae" else set()
    assert {r.number for r in results if r.status != "passed"} == inapplicable


IMAGES = [GatedPixelCNN, PixelCNN, RowLSTM, DiagonalBiLSTM, MultiScalePixelRNN, PixelCNNpp, PixelSNAIL]


SHAPES = {"grey": (1, 5, 4), "rgb": (3, 3, 5), "pixel": (2, 1, 1)}
# Of several channels some heads stand for the others: a table, a coupled mixture, a density.
QUICK = {"grey": set(ALL), "rgb": {"grey17", "mixture256", "logistic"}, "pixel": {"binary", "mixture16bit"}}
VARIANTS = [
    pytest.param(shape, head, id=f"{name}-{head}", marks=() if head in QUICK[name] else pytest.mark.slow)
    for name, shape in SHAPES.items()
    for head in ALL
]


@pytest.mark.parametrize(("shape", "head"), VARIANTS)
@pytest.mark.parametrize("kind", IMAGES)
def test_images(kind, shape, head):
    check_model(kind(shape=shape, likelihood=ALL[head], channels=12, layers=2))


CONDITIONERS = {
    "class": conditioning.OneHot(classes=3),
    "vector": conditioning.Vector(features=4),
    "map": conditioning.Map(channels=2, features=4),
    "small map": conditioning.Map(channels=1, features=4, upsample=2),
}


@pytest.mark.parametrize("conditioner", CONDITIONERS.values(), ids=CONDITIONERS)
@pytest.mark.parametrize("shape", [(1, 4, 6), (3, 2, 4)], ids=["grey", "rgb"])
@pytest.mark.parametrize("kind", IMAGES)
def test_conditional_images(kind, conditioner, shape):
    check_model(kind(shape=shape, channels=12, layers=2, conditioner=conditioner))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(
    ("kind", "kernel_size"),
    [
        (GatedPixelCNN, 1),
        (GatedPixelCNN, 3),
        (GatedPixelCNN, 5),
        (PixelCNN, 3),
        (PixelCNN, 5),
        (RowLSTM, 5),
        (MultiScalePixelRNN, 5),
    ],
)
def test_kernel_sizes(kind, layers, kernel_size):
    check_model(kind(shape=(1, 9, 8), channels=4, layers=layers, kernel_size=kernel_size))


@pytest.mark.parametrize("head", ALL)
def test_made_over_a_table(head):
    check_model(MADE(shape=(7,), likelihood=ALL[head], hidden=(20,)))


@pytest.mark.parametrize(
    "arguments",
    [
        {"hidden": (20, 20)},
        {"hidden": ()},
        {"direct": True, "conditioning_weights": True},
        {"masks": 4, "order_agnostic": True},
        {"masks": None, "order_agnostic": True, "connectivity_agnostic": True, "hidden": (20, 20)},
        {"masks": 3, "connectivity_agnostic": True, "direct": True},
        {"classes": 3},
        {"conditioner": conditioning.Vector(features=2)},
        {"shape": (3, 2, 4)},
        {"shape": (1,)},
    ],
    ids=str,
)
def test_made_variants(arguments):
    check_model(MADE(**{"shape": (6,), "hidden": (20,), "direct": arguments.get("hidden") == (), **arguments}))


def failures(model):
    return {check.number for check in outcomes(model) if check.status == "failed"}


def patched_initializer(cls, change):
    original = cls.__init__

    @functools.wraps(original)
    def initializer(self, *args, **kwargs):
        original(self, *args, **kwargs)
        change(self)

    return initializer


def test_a_pixel_that_sees_itself_is_noticed(monkeypatch):
    monkeypatch.setattr(ancestral.walk, "shift_right", lambda x: x)
    assert {2, 3, 5} <= failures(tiny("gated-pixelcnn"))


def test_a_pixel_that_sees_its_right_neighbours_is_a_leak(monkeypatch):
    monkeypatch.setattr(ancestral.walk, "shift_down", lambda x: x)
    assert {1, 2, 3} <= failures(tiny("gated-pixelcnn"))


def test_shifting_twice_is_a_blind_spot(monkeypatch):
    once = ancestral.walk.shift_down
    monkeypatch.setattr(ancestral.walk, "shift_down", lambda x: once(once(x)))
    assert {1, 3} <= failures(tiny("gated-pixelcnn"))


def test_a_missing_group_mask_is_a_leak(monkeypatch):
    def forget(layer):
        if layer.mask is not None:
            layer.mask.fill_(1)

    conv = ancestral.causal.RowConv2d
    monkeypatch.setattr(conv, "__init__", patched_initializer(conv, forget))
    assert {1, 2, 3} <= failures(tiny("gated-pixelcnn", shape=(3, 4, 5)))


def test_an_output_that_sees_itself_is_a_leak(monkeypatch):
    masks = Degrees.masks
    monkeypatch.setattr(Degrees, "masks", lambda self, *a: [m.clone().fill_(True) for m in masks(self, *a)])
    assert {1, 2, 3} <= failures(tiny("made"))


def test_memory_that_outlives_a_row_is_noticed(monkeypatch):
    monkeypatch.setattr(Cursor, "next_row", lambda self: self.col.zero_())
    assert {3, 5} <= failures(tiny("gated-pixelcnn"))


def test_features_of_the_row_above_that_come_too_late_are_noticed(monkeypatch):
    put_aside = ancestral.causal.cursor.Bank.put_aside
    monkeypatch.setattr(ancestral.causal.cursor.Bank, "put_aside", lambda self, col: put_aside(self, 0 * col))
    assert {3, 5} <= failures(tiny("pixelcnn"))


def test_memory_shared_by_walks_is_noticed(monkeypatch):
    shared = Cursor()

    def forget():
        shared.reset()
        return shared

    monkeypatch.setattr(ancestral.walk, "Cursor", lambda *_: forget())
    assert 8 in failures(tiny("gated-pixelcnn"))


def test_a_head_that_is_no_distribution_is_noticed(monkeypatch):
    head = likelihoods.Categorical
    monkeypatch.setattr(head, "log_probs", lambda self, p, x: -0.9 * torch.ones_like(x, dtype=p.dtype))
    assert {2, 3, 5, 9} <= failures(tiny("made", likelihood=head(3)))


def test_a_parameter_that_nothing_uses_is_noticed(monkeypatch):
    def idle(model):
        model.idle = torch.nn.Parameter(torch.ones(3))

    monkeypatch.setattr(MADE, "__init__", patched_initializer(MADE, idle))
    assert failures(tiny("made")) == {9}


def test_work_done_twice_is_noticed(monkeypatch):
    step = ancestral.models.made.DegreePass
    params = step.params

    def wasteful(self, t):
        for weight in self.weights:
            weight @ weight.t()
        return params(self, t)

    monkeypatch.setattr(step, "params", wasteful)
    assert failures(tiny("made")) == {4}


def test_check_model_names_what_failed(monkeypatch):
    monkeypatch.setattr(ancestral.walk, "shift_down", lambda x: x)
    with pytest.raises(AssertionError, match=r"GatedPixelCNN breaks the contract\n1\. no leak.*sees the later"):
        check_model(tiny("gated-pixelcnn"))


def test_unknown_name():
    with pytest.raises(ValueError, match=r"name must be one of made, .*gated-pixelcnn"):
        tiny("pixelrnn")
