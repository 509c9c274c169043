"""The figures of the models' pages: what each network sees, measured as `ancestral verify` does it.

    python benchmarks/fields.py

Networks of a few layers with random weights: what is seen follows from how a network is built, not from what it has
learnt. Of hierarchical VAEs the figure is the KL of each level of a trained one, from results/latents.json.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ancestral.checkpoint import read_json
from ancestral.files import replacing
from ancestral.likelihoods import Bernoulli
from ancestral.model import Model
from ancestral.models import (
    MADE,
    DiagonalBiLSTM,
    GatedPixelCNN,
    MultiScalePixelRNN,
    PixelCNN,
    PixelCNNpp,
    PixelSNAIL,
    RowLSTM,
    WaveNet,
)
from ancestral.report.field import dependence, field_of, walked
from ancestral.report.figures import bars, png_of
from ancestral.report.verify import column_findings, pixel_findings, step_findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
FOLDER, LATENTS = ROOT / "docs" / "models", ROOT / "results" / "latents.json"
IMAGE, PIXEL = (1, 16, 16), (0, 8, 6)
STEPS = 40


def image(build: Callable[[], Model], pixel: tuple[int, int, int] = PIXEL) -> "Figure":
    """Draw what a pixel of an image sees."""
    model = made(build)
    x = torch.randint(model.likelihood.levels or 2, (2, *IMAGE))
    place = walked(model, x).place
    return pixel_findings(field_of(model, x, None, pixel, place))[2]


def sequence(build: Callable[[], Model]) -> "Figure":
    """Draw which steps the last one of a sequence sees."""
    model = made(build)
    x = torch.randint(2, (2, 1, STEPS))
    field = field_of(model, x, None, (0, STEPS - 1), walked(model, x).place)
    return step_findings(field, model.reach, None)[2]


def table(build: Callable[[], Model]) -> "Figure":
    """Draw which column of a table depends on which."""
    model = made(build)
    x = torch.randint(2, (8, *model.shape))
    return column_findings(
        dependence(model, x, None), walked(model, x).place, [f"x{i + 1}" for i in range(x.shape[1])]
    )[2]


def levels() -> "Figure":
    """Draw the KL of each level of the deepest trained hierarchy."""
    row = max(read_json(LATENTS)["rows"], key=lambda row: len(row["levels"]))
    names = [f"z_{level['level']}, {level['units']} units" for level in row["levels"]]
    return bars(names, [level["kl"] for level in row["levels"]], "KL(q || p) of the level, nats")


def made(build: Callable[[], Model]) -> Model:
    """Return a model with the same random weights each time, none of them zero."""
    torch.manual_seed(0)
    model = build().eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


FIGURES: dict[str, Callable[[], "Figure"]] = {
    "made": lambda: table(lambda: MADE(shape=(10,), hidden=(40,), order_agnostic=True)),
    "pixelcnn": lambda: image(lambda: PixelCNN(shape=IMAGE, channels=4, layers=5), (0, 12, 5)),
    "row-lstm": lambda: image(lambda: RowLSTM(shape=IMAGE, channels=4, layers=2)),
    "diagonal-bilstm": lambda: image(lambda: DiagonalBiLSTM(shape=IMAGE, channels=4, layers=2)),
    "multi-scale-pixelrnn": lambda: image(lambda: MultiScalePixelRNN(shape=IMAGE, channels=4, layers=2), (0, 9, 7)),
    "gated-pixelcnn": lambda: image(lambda: GatedPixelCNN(shape=IMAGE, channels=4, layers=3, kernel_size=3)),
    "wavenet": lambda: sequence(lambda: WaveNet(shape=(1, STEPS), likelihood=Bernoulli(), channels=4, layers=4)),
    "pixelcnnpp": lambda: image(lambda: PixelCNNpp(shape=IMAGE, likelihood=Bernoulli(), channels=4, layers=1)),
    "pixelsnail": lambda: image(
        lambda: PixelSNAIL(shape=IMAGE, likelihood=Bernoulli(), channels=4, layers=1, residual_blocks=1)
    ),
    "hierarchical-vae": levels,
    "pixel-vae": lambda: image(lambda: GatedPixelCNN(shape=IMAGE, channels=4, layers=2, kernel_size=3)),
}


def main() -> None:
    """Draw all figures."""
    for name, draw in FIGURES.items():
        with replacing(FOLDER / f"{name}.png") as part:
            part.write_bytes(png_of(draw()))
        print(FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
