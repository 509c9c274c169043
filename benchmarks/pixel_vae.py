"""What latents add to an autoregressive model of digits: a bound beside the same decoder without them, and a picture.

    python benchmarks/pixel_vae.py [--minutes 3] [--threads 1] [--runs FOLDER]
    python benchmarks/pixel_vae.py --table     prints the section of the documentation that the JSON makes

Two decoders, one that sees few pixels and one that sees nearly all, each trained alone and under latents, for the same
minutes. A run folder that holds a run is not trained again. The picture is of the decoder that sees few.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import machine
from ancestral import Dense, GatedPixelCNN, Map, PixelVAE, evaluate, load, train
from ancestral.checkpoint import WEIGHTS, read_config, read_json, write_json
from ancestral.data import Data
from ancestral.data import load as load_data
from ancestral.data.restore import Pictures
from ancestral.likelihoods import Categorical
from ancestral.model import Model
from ancestral.report.draws import in_turn
from ancestral.report.pictures import beside, save_png, tiles
from ancestral.walk import Fixed, Joint, Sample, drive

if TYPE_CHECKING:
    from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PICTURE = ROOT / "results" / "pixel_vae.json", ROOT / "docs" / "pixel_vae.png"

DECODERS: dict[str, dict[str, int]] = {
    "few": {"layers": 1, "channels": 32, "kernel_size": 1},
    "nearly all": {"layers": 4, "channels": 32, "kernel_size": 3},
}
LATENTS, MAPS, HIDDEN, DROPOUT = 32, 8, 200, 0.2
SAMPLES = 100  # K of the bound
ACTIVE = 0.01  # variance of a latent's posterior mean over the test part, from which it is used (1509.00519)
SHOWN, DRAWS = 10, 6  # rows and columns of the picture
SCALE, CAPTION = 6, 34  # pixels


def decoder(data: Data, name: str, conditioner: Map | None) -> GatedPixelCNN:
    """Return an untrained decoder."""
    channels, height, width = data.shape
    likelihood = Categorical(data.levels or 0)
    return GatedPixelCNN(
        shape=(channels, height, width), likelihood=likelihood, conditioner=conditioner, **DECODERS[name]
    )


def untrained(data: Data, name: str, latents: bool) -> Model:
    """Return a decoder by itself, or one under latents."""
    if not latents:
        return decoder(data, name, None)
    below = decoder(data, name, Map(channels=MAPS, features=16))
    network = Dense(hidden=(HIDDEN,), dropout=DROPOUT)
    return PixelVAE(shape=data.shape, likelihood=below.likelihood, latents=(LATENTS,), network=network, decoder=below)


def trained(data: Data, name: str, latents: bool, minutes: float, folder: Path) -> Model:
    """Return the model of a run folder, trained now where there is none."""
    if not (folder / WEIGHTS).exists():
        torch.manual_seed(0)
        train(untrained(data, name, latents), data, folder, minutes=minutes, seed=0)
    return load(folder)


@torch.no_grad()
def of_latents(model: PixelVAE, data: Data) -> dict[str, Any]:
    """Return the ELBO on the test part, what it is made of, and how many latents are used."""
    x = data.split("test").x
    torch.manual_seed(0)
    terms = model.terms(x)
    active = model.encode(x).var(0) > ACTIVE
    return {
        "elbo_nats": -terms.elbo().mean().item(),
        "log_px_nats": -terms.log_px.mean().item(),
        "kl_nats": terms.kl.sum(1).mean().item(),
        "latents": len(active),
        "active": int(active.sum()),
    }


def measure(model: Model, data: Data, name: str, minutes: float, folder: Path) -> dict[str, Any]:
    """Return the row of a trained model."""
    torch.manual_seed(0)
    found = evaluate(model, data, samples=1 if model.exact else SAMPLES)
    config = read_config(folder)
    seen = model.receptive_field((0, *(side - 1 for side in data.shape[1:])))
    return {
        "decoder": name,
        "arguments": DECODERS[name],
        "seen": int(seen.sum()),
        "earlier": math.prod(data.shape) - 1,
        "parameters": sum(p.numel() for p in model.parameters()),
        "minutes": minutes,
        "trained": {key: config["result"][key] for key in ("steps", "epochs", "seconds", "best_step")},
        "exact": model.exact,
        "samples": None if model.exact else SAMPLES,
        **{key: getattr(found, key) for key in ("nats", "nats_se", "bits_per_dim", "bits_per_dim_se", "count")},
        **({} if not isinstance(model, PixelVAE) else of_latents(model, data)),
        "machine": machine.describe(),
    }


def draws(model: PixelVAE, z: Tensor, noise: Tensor) -> Tensor:
    """Return a draw of p(x|z) for each z (N, F), made of uniforms (N, *shape)."""
    return drive(model.walk(len(z)), Fixed({1: z}, Sample(Joint(noise))))


@torch.no_grad()
def picture(model: PixelVAE, alone: Model, data: Data) -> "Image.Image":
    """Return test digits with draws of what their latents say, draws of other latents, and of none."""
    generator = torch.Generator().manual_seed(0)
    test = data.split("test")
    assert test.labels is not None
    x = test.x[in_turn(torch.arange(len(test)), test.labels)[:SHOWN]]
    noise = model.noise(SHOWN * DRAWS, data.shape, generator)
    own = model.infer(x, generator=generator)[0]
    others = torch.randn(DRAWS, LATENTS, generator=generator)
    same = draws(model, own.repeat_interleave(DRAWS, 0), noise.x)
    of_row = noise.x.view(SHOWN, DRAWS, *data.shape)[:, :1].expand(-1, DRAWS, *data.shape).flatten(0, 1)
    different = draws(model, others.repeat(SHOWN, 1), of_row)
    without = alone.sample(SHOWN * DRAWS // 2, generator=generator)
    blocks = [
        ("x", x),
        ("x ~ p(x|z), z of the digit on the left:\nanother noise in every column", same),
        ("another z in every column,\nthe noise of each row the same", different),
        ("no latents", without),
    ]
    return beside([block(data, caption, pictures) for caption, pictures in blocks], gap=28)


def block(data: Data, caption: str, x: Tensor) -> "Image.Image":
    """Return pictures in rows, with words above them."""
    from PIL import Image, ImageDraw, ImageFont

    assert isinstance(data.restore, Pictures)
    each = data.restore(x)
    columns = len(each) // SHOWN
    grid = tiles([each[i : i + columns] for i in range(0, len(each), columns)], scale=SCALE)
    out = Image.new("RGB", (grid.width, grid.height + CAPTION), "white")
    out.paste(grid, (0, CAPTION))
    ImageDraw.Draw(out).multiline_text((0, 2), caption, "black", ImageFont.load_default(12), spacing=2)
    return out


def section(result: Mapping[str, Any]) -> str:
    """Return the section of the documentation, from the JSON."""
    rows = result["rows"]
    lines = [
        "| decoder: earlier pixels that it sees of the last one | by itself, nats | under latents, at most |"
        " ELBO | KL(q \\|\\| p) | latents in use |",
        "|---|---|---|---|---|---|",
    ]
    for name in DECODERS:
        alone, under = (
            next(row for row in rows if row["decoder"] == name and row["exact"] is exact) for exact in (True, False)
        )
        arguments = ", ".join(f"{key}={value}" for key, value in alone["arguments"].items())
        lines.append(
            f"| {alone['seen']} of {alone['earlier']} ({arguments}) | {figure(alone)} | **{figure(under)}** "
            f"| {under['elbo_nats']:.2f} | {under['kl_nats']:.1f} | {under['active']} of {under['latents']} |"
        )
    row = rows[0]
    m = row["machine"]
    lines += [
        "",
        f"{row['count']} test digits, {row['minutes']:g} minutes each on {m['threads']} thread of {m['cpu']}.",
    ]
    return "\n".join(lines)


def figure(row: Mapping[str, Any]) -> str:
    """Return nats and bits/dim of a row."""
    return f"{row['nats']:.2f} ± {row['nats_se']:.2f} ({row['bits_per_dim']:.3f} bits/dim)"


def run(names: Sequence[str], minutes: float, runs: Path, out: Path, drawing: Path) -> None:
    """Train, measure and draw."""
    data, rows = load_data("digits"), []
    models: dict[tuple[str, bool], Model] = {}
    for name in names:
        for latents in (False, True):
            folder = runs / f"pixel-vae-{name.replace(' ', '-')}-{'latents' if latents else 'alone'}"
            models[name, latents] = trained(data, name, latents, minutes, folder)
            rows.append(measure(models[name, latents], data, name, minutes, folder))
            print(f"{folder.name}: {figure(rows[-1])}", flush=True)
    write_json(out, {"benchmark": "pixel_vae", "rows": rows})
    first, alone = models[names[0], True], models[names[0], False]
    assert isinstance(first, PixelVAE)
    save_png(picture(first, alone, data), drawing)


def main() -> None:
    """Measure, or print the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--minutes", type=float, default=3.0, help="of each training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print the section of the JSON, and do nothing else")
    arguments = parser.parse_args()
    if arguments.table:
        print(section(read_json(arguments.json)))
        return
    torch.set_num_threads(arguments.threads)
    run(list(DECODERS), arguments.minutes, arguments.runs, arguments.json, arguments.picture)


if __name__ == "__main__":
    main()
