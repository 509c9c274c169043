"""Every model compresses: what comes back, and what is refused."""

import io

import pytest
import torch
from torch import Tensor

import ancestral
from ancestral.codec import Entry, Reader, Writer, compress, decompress
from ancestral.latents import BottomUp, Dense, Ladder, MeanField, TopDown
from ancestral.likelihoods import Categorical, GaussianMixture, Likelihood
from ancestral.model import Model
from ancestral.models import MODELS, HierarchicalVAE
from ancestral.testing import tiny
from codec_files import LIKELIHOODS, batches, model_of, read, written


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
@pytest.mark.parametrize("name", list(MODELS))
def test_what_is_compressed_comes_back(name: str, likelihood: Likelihood) -> None:
    model = model_of(name, likelihood)
    for x in batches(model, 3):
        assert torch.equal(decompress(model, compress(model, x, verify=False)), x)


@pytest.mark.parametrize("n", [1, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(MODELS))
def test_batches_of_any_size_come_back(name: str, n: int) -> None:
    model = model_of(name, Categorical(levels=17))
    for x in batches(model, n):
        assert torch.equal(decompress(model, compress(model, x)), x)


@pytest.mark.parametrize("name", list(MODELS))
def test_classes_are_told_or_chosen(name: str) -> None:
    model = model_of(name, classes=3)
    x, labels = model.sample(6, torch.arange(6) % 3), torch.arange(6) % 3
    assert torch.equal(decompress(model, compress(model, x, labels)), x)
    assert torch.equal(decompress(model, compress(model, x)), x)
    file = io.BytesIO()
    with Writer(file, model) as writer:
        writer.add(Entry("told", 2, model.shape), x[0])
        writer.add(Entry("chosen", None, model.shape), x[1])
    told, chosen = Reader(io.BytesIO(file.getvalue()), model)
    assert (told[0].label, chosen[0].label) == (2, None)


def test_the_class_with_the_fewest_bits_is_chosen() -> None:
    model = model_of("made", classes=3)
    x = model.sample(200, 1)
    sizes = [written(model, x)[1].streams]
    for label in range(3):
        file = io.BytesIO()
        with Writer(file, model) as writer:
            for example in x:
                writer.add(Entry("", label, model.shape), example)
        sizes.append(writer.totals.streams)
    assert sizes[0] < min(sizes[1:])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_levels_of_any_dtype_and_stride(dtype: torch.dtype) -> None:
    model = model_of("gated-pixelcnn", Categorical(levels=17))
    x = torch.randint(17, (5, 4, 3, 1)).permute(2, 3, 1, 0)
    assert not x.is_contiguous()
    assert torch.equal(decompress(model, compress(model, x.to(dtype))), x)


@pytest.mark.parametrize("name", ["gated-pixelcnn", "hierarchical-vae", "pixel-vae"])
def test_a_model_is_left_as_it_was_and_gives_the_same_again(name: str) -> None:
    model = model_of(name, classes=2).train()
    x = torch.randint(2, (2, *model.shape))
    state = torch.get_rng_state()
    data = compress(model, x)
    assert torch.equal(decompress(model, data), x)
    assert (model.training, model.dtype) == (True, torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(77)
    assert compress(model, x) == data


@pytest.mark.parametrize("portable", [True, False])
@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("posterior", [MeanField(), BottomUp(), Ladder(), TopDown()], ids=str)
def test_every_posterior_comes_back(posterior: object, prior: bool, portable: bool) -> None:
    torch.manual_seed(3)
    top = MODELS["made"](shape=(2,), likelihood=GaussianMixture(2), hidden=(5,)) if prior else None
    network = Dense(hidden=(8, 6), layers=1)
    model = HierarchicalVAE(shape=(6,), latents=(3, 2), network=network, posterior=posterior, prior=top).eval()
    x = model.sample(20)
    data, totals = written(model, x, portable=portable)
    assert torch.equal(read(model, data), x)
    assert totals.given < 100


def test_probabilities_that_are_no_numbers_are_stored() -> None:
    model = model_of("made", Categorical(levels=17))
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    x = torch.randint(17, (5, 6))
    assert torch.equal(decompress(model, compress(model, x)), x)


def test_nothing_is_a_batch_too() -> None:
    model = model_of("made")
    assert decompress(model, compress(model, torch.zeros(0, 6, dtype=torch.long))).shape == (0, 6)


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (tiny("made", likelihood=GaussianMixture(2)), torch.zeros(1, 6), "its likelihood is continuous"),
        (tiny("made"), torch.full((1, 6), 2), "x must hold levels from 0 to 1, got values from 2 to 2"),
        (tiny("made"), torch.full((1, 6), 0.5), "got fractions"),
        (tiny("made"), torch.zeros(1, 2, 6), "must have 1 axes and at least one value"),
        (tiny("pixelcnn"), torch.zeros(1, 3, 4, 5), r"must have 3 axes, 1 channels .* got \(3, 4, 5\)"),
        (tiny("hierarchical-vae"), torch.zeros(1, 7), "takes examples of"),
        (MODELS["made"](shape=(6,), conditioner=ancestral.Vector(features=2)), torch.zeros(1, 6), "it is told Vector"),
    ],
    ids=range(7),
)
def test_what_cannot_be_compressed_is_refused(model: Model, x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        written(model, x)
    assert "\n" not in str(refused.value)
