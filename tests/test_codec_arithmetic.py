"""Threads, instruction sets, passes and walks, sizes of batches change nothing; how long a stream is."""

import copy
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ancestral import checkpoint
from ancestral.codec import bits_back, coding, compress, counts, decompress, stream
from ancestral.codec.payload import groups
from ancestral.distributions import Distribution
from ancestral.likelihoods import Categorical, DiscretizedLogisticMixture, Likelihood
from ancestral.models import MODELS
from ancestral.models.latent import LatentVariables
from ancestral.walk import Infer
from codec_files import EXACT, LATENT, LIKELIHOODS, batches, model_of, read, written


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


class Elsewhere(Distribution):
    """A distribution as a machine finds it that computes otherwise: its cdf is off by up to 2^-28."""

    def __init__(self, base: Distribution) -> None:
        self.base = base

    def cdf(self, v: Tensor) -> Tensor:
        found = self.base.cdf(v).double()
        return torch.where((found > 0) & (found < 1), found + 2**-28 * torch.sin(2**40 * found), found)

    log_prob = log_pmf = draw = None  # type: ignore[assignment]


@pytest.mark.parametrize("likelihood", [Categorical(levels=17), DiscretizedLogisticMixture(levels=65536)])
@pytest.mark.parametrize("name", list(MODELS))
def test_another_arithmetic_decodes(name: str, likelihood: Likelihood, monkeypatch: pytest.MonkeyPatch) -> None:
    for margin, value in (("MARGIN", 2**-27), ("LOW_MARGIN", 2**-30), ("ROUNDING", 2**-25)):
        monkeypatch.setattr(counts, margin, value)
    model = model_of(name, likelihood)
    x = model.sample(5)
    data = compress(model, x)
    monkeypatch.setattr(stream, "decoded", lambda p, *rest: counts.decoded(Elsewhere(p), *rest))
    monkeypatch.setattr(stream, "intervals", lambda p, *rest: counts.intervals(Elsewhere(p), *rest))
    assert torch.equal(decompress(model, data), x)


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
    for part, source in zip(x.split([len(group) for group in groups(40)]), taken, strict=True):
        z = {level: source.stack.cells[level - 1].value(v) for level, v in source.v.items()}
        inferred = Infer(part, z=z)
        with torch.no_grad():
            log_px = double.log_px(part, double.inferred(part, None, inferred))
            bits -= float(inferred.log_weight(log_px).sum()) / math.log(2)
    net = 8 * totals.streams - totals.initial_bits
    assert totals.initial_bits > 0
    assert net <= 1.001 * bits + 64
    assert net + 8 * totals.given >= 0.999 * bits - 64


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
