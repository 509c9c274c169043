"""Models that compress, batches for them, and files in memory."""

import io
from collections.abc import Iterator

import torch
from torch import Tensor

from ancestral.codec import Entry, Lost, Reader, Totals, Writer
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture, Likelihood
from ancestral.model import Model
from ancestral.models import MODELS
from ancestral.models.latent import LatentVariables
from ancestral.testing import randomized, tiny

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
