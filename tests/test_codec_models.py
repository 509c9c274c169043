"""Every model compresses: what comes back, by which layout of threads and batches, and how long it is."""

import copy
import io
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ancestral
from ancestral import checkpoint
from ancestral.codec import Entry, Lost, Reader, Totals, Writer, bits_back, coding, compress, decompress
from ancestral.latents import BottomUp, Dense, Ladder, MeanField, TopDown
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture, GaussianMixture, Likelihood
from ancestral.model import Model
from ancestral.models import MODELS, HierarchicalVAE
from ancestral.models.latent import LatentVariables
from ancestral.testing import randomized, tiny
from ancestral.walk import Infer

LIKELIHOODS: list[Likelihood] = [
    Bernoulli(),
    Categorical(levels=17),
    DiscretizedLogisticMixture(levels=256),
    DiscretizedLogisticMixture(levels=65536),
]
EXACT = [name for name, kind in MODELS.items() if not issubclass(kind, LatentVariables)]
LATENT = [name for name in MODELS if name not in EXACT]


def model_of(name: str, likelihood: Likelihood | None = None, classes: int | None = None) -> Model:
    torch.manual_seed(1)
    return randomized(tiny(name, likelihood=likelihood, classes=classes))


def levels_of(model: Model) -> int:
    assert model.likelihood.levels is not None
    return model.likelihood.levels


def batches(model: Model, n: int) -> Iterator[Tensor]:
    """Samples, uniform noise, and constants."""
    levels = levels_of(model)
    yield model.sample(n)
    yield torch.randint(levels, (n, *model.shape))
    yield torch.zeros(n, *model.shape, dtype=torch.long)
    yield torch.full((n, *model.shape), levels - 1)


def written(model: Model, x: Tensor, **choice: object) -> tuple[bytes, Totals]:
    file = io.BytesIO()
    with Writer(file, model, **choice) as writer:
        for i, example in enumerate(x):
            writer.add(Entry(f"{i}", None, tuple(example.shape)), example)
    return file.getvalue(), writer.close()


def read(model: Model, data: bytes) -> Tensor:
    found = list(Reader(io.BytesIO(data), model))
    assert not [each for each in found if isinstance(each, Lost)]
    return torch.stack([each[1] for each in found])


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
def test_files_that_are_not_portable_come_back_too(name: str) -> None:
    model = model_of(name)
    for x in [model.sample(5)]:
        data, _ = written(model, x, portable=False, examples=3)
        assert torch.equal(read(model, data), x)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", list(MODELS))
def test_threads_change_nothing(name: str) -> None:
    model = model_of(name, Categorical(levels=17))
    x, found = model.sample(7), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(compress(model, x))
    assert torch.equal(decompress(model, found[0]), x)
    torch.set_num_threads(1)
    assert torch.equal(decompress(model, found[1]), x)
    if model.exact:
        assert found[0] == found[1]


@pytest.mark.parametrize("name", list(MODELS))
def test_any_size_of_chunks_decodes(name: str) -> None:
    model = model_of(name)
    x = model.sample(9)
    for examples in (2, 9, 64):
        data, totals = written(model, x, examples=examples)
        assert totals.chunks == math.ceil(9 / examples)
        assert totals.bytes == len(data)
        assert torch.equal(read(model, data), x)


@pytest.mark.parametrize("likelihood", [LIKELIHOODS[1], LIKELIHOODS[3]], ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_the_pass_and_the_walk_encode_the_same(name: str, likelihood: Likelihood) -> None:
    model = model_of(name, likelihood).double()
    for x in batches(model, 5):
        together, walked = coding.parallel_symbols(model, x, None), coding.walked(model, x, None)
        given = together.given()
        assert len(given) <= 0.05 * x.numel()
        for one, other in zip(together.but(given), walked.but(given), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("likelihood", LIKELIHOODS[1:3], ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_a_stream_is_as_long_as_the_model_says(name: str, likelihood: Likelihood) -> None:
    model = model_of(name, likelihood)
    x = model.sample(64)
    with torch.no_grad():
        bits = -float(copy.deepcopy(model).double().log_prob(x).sum()) / math.log(2)
    for examples in (1, 64):
        _, totals = written(model, x, examples=examples, verify=False)
        assert 8 * totals.streams <= 1.001 * bits + 64 * totals.chunks
    assert 8 * totals.streams >= bits - 64


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
@pytest.mark.parametrize("name", LATENT)
def test_bits_back_are_as_many_as_the_bound_says(
    name: str, likelihood: Likelihood, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, taken = model_of(name, likelihood), []

    class Kept(bits_back.Take):
        def __init__(self, stack: bits_back.Stack) -> None:
            super().__init__(stack)
            taken.append(self)

    monkeypatch.setattr(bits_back, "Take", Kept)
    x = model.sample(40)
    _, totals = written(model, x, verify=False)
    double = copy.deepcopy(model).double()
    assert isinstance(double, LatentVariables)
    bits = 0.0
    for part, source in zip(x.split(8), taken, strict=True):
        z = {level: source.stack.cells[level - 1].value(v) for level, v in source.v.items()}
        inferred = Infer(part, z=z)
        with torch.no_grad():
            log_px = double.log_px(part, double.inferred(part, None, inferred))
            bits -= float(inferred.log_weight(log_px).sum()) / math.log(2)
    net = 8 * totals.streams - totals.initial_bits
    assert totals.initial_bits > 0
    assert net <= 1.001 * bits + 64
    assert net >= 0.999 * bits - 64


def test_another_instruction_set_decodes(tmp_path: Path) -> None:
    names = ["gated-pixelcnn", "pixelcnn++", "hierarchical-vae", "wavenet"]
    for name in names:
        model = model_of(name, DiscretizedLogisticMixture(levels=256))
        checkpoint.save(model, tmp_path / name)
        x = model.sample(5)
        (tmp_path / f"{name}.anc").write_bytes(compress(model, x))
        torch.save(x, tmp_path / f"{name}.pt")
    code = (
        "import sys, torch, ancestral\n"
        "from pathlib import Path\n"
        "assert torch.backends.cpu.get_cpu_capability() == 'DEFAULT'\n"
        "for file in sorted(Path(sys.argv[1]).glob('*.anc')):\n"
        "    found = ancestral.decompress(ancestral.load(file.with_suffix('')), file.read_bytes())\n"
        "    print(file.stem, torch.equal(found, torch.load(file.with_suffix('.pt'))))\n"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split("\n")[:-1] == [f"{name} True" for name in sorted(names)]


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
