"""Files that were written before can still be read: models of made-up weights, and what they made of some levels.

Where the format changes on purpose: `python tests/test_codec_golden.py` writes them anew.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ancestral.codec import compress, decompress
from ancestral.likelihoods import Categorical, DiscretizedLogisticMixture, Likelihood
from ancestral.model import Model
from ancestral.testing import tiny

GOLDEN = Path(__file__).parent / "golden"
FILES: dict[str, tuple[str, tuple[int, ...], Likelihood]] = {
    "levels-17": ("made", (5,), Categorical(17)),
    "levels-65536": ("wavenet", (1, 12), DiscretizedLogisticMixture(levels=65536, components=2)),
    "latents": ("hierarchical-vae", (1, 4, 4), Categorical(5)),
}


def made_up(file: str) -> tuple[Model, Tensor]:
    """Return the model of a file, of weights that no generator draws, and the levels in it."""
    name, shape, likelihood = FILES[file]
    model = tiny(name, shape=shape, likelihood=likelihood).eval()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_((torch.arange(p.numel()) * (i + 5) % 13 - 6).view(p.shape) / 16)
    x = torch.arange(3 * torch.Size(shape).numel()).view(3, *shape)
    return model, x * x * 7919 % (likelihood.levels or 1)


@pytest.mark.parametrize("file", list(FILES))
def test_files_of_earlier_can_be_read(file: str) -> None:
    model, x = made_up(file)
    assert torch.equal(decompress(model, (GOLDEN / f"{file}.anc").read_bytes()), x)


if __name__ == "__main__":
    for file in FILES:
        (GOLDEN / f"{file}.anc").write_bytes(compress(*made_up(file)))
