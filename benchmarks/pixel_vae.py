"""What latents add to an autoregressive model of digits: a bound beside the same decoder without them, and a picture.

    python benchmarks/pixel_vae.py [--minutes 3] [--threads 1] [--runs FOLDER]
    python benchmarks/pixel_vae.py --table     prints the section of the documentation that the JSON makes

A decoder that sees few pixels is trained by itself, told which pixel it is at, and under latents, for the same minutes.
(Fully connected layers below the latents say which pixel it is, too: that is not to be counted as theirs.) A run folder
that holds a run is not trained again.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import machine
from ancestral import Dense, GatedPixelCNN, Map, PixelVAE, evaluate, load, train
from ancestral.checkpoint import WEIGHTS, read_config, read_json, write_json
from ancestral.data import Data
from ancestral.data import load as load_data
from ancestral.data.given import Small
from ancestral.data.restore import Pictures
from ancestral.likelihoods import Categorical
from ancestral.model import Model
from ancestral.objectives import elbo, nll
from ancestral.report.draws import in_turn
from ancestral.report.pictures import beside, save_png, tiles
from ancestral.walk import Fixed, Joint, Sample, drive

if TYPE_CHECKING:
    from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PICTURE = ROOT / "results" / "pixel_vae.json", ROOT / "docs" / "pixel_vae.png"

SIDE, LEVELS = 8, 17  # of the digits
DECODERS: dict[str, dict[str, int]] = {
    "few": {"layers": 1, "channels": 32, "kernel_size": 1},
}
KINDS = ("alone", "places", "latents")
LATENTS, MAPS, HIDDEN, DROPOUT = 32, 8, 200, 0.2
WARM_UP = 1000  # steps over which divergences come to count in full
SAMPLES = 100  # K of the bound
ACTIVE = 0.01  # variance of a latent's posterior mean over the test part, from which it is used (1509.00519)
SHOWN, DRAWS = 10, 6  # rows and columns of the picture
SCALE, CAPTION, MARGIN = 7, 44, 12  # pixels


class Places(Small):
    """Given of every example: which pixel is which, a map of ones for each."""

    words, factor = "its places", 1

    def channels(self, colours: int) -> int:
        return SIDE**2

    def __call__(self, x: Tensor) -> Tensor:
        """Return levels that become -1, and 1 at the place of the map: (N, H W, H, W)."""
        return torch.eye(SIDE**2).view(1, -1, SIDE, SIDE).expand(len(x), -1, -1, -1) * (LEVELS - 1)


def data_for(kind: str) -> Data:
    """Return digits, without the labels that a decoder would be told."""
    return load_data("digits") if kind != "places" else replace(load_data("digits"), given=Places())


def untrained(name: str, kind: str) -> Model:
    """Return a decoder by itself, one that is told places, or one under latents."""
    told = {"alone": None, "places": Map(channels=SIDE**2, features=16), "latents": Map(channels=MAPS, features=16)}
    likelihood, shape = Categorical(LEVELS), (1, SIDE, SIDE)
    decoder = GatedPixelCNN(shape=shape, likelihood=likelihood, conditioner=told[kind], **DECODERS[name])
    if kind != "latents":
        return decoder
    network = Dense(hidden=(HIDDEN,), dropout=DROPOUT)
    return PixelVAE(shape=shape, likelihood=likelihood, latents=(LATENTS,), network=network, decoder=decoder)


def trained(name: str, kind: str, minutes: float, folder: Path) -> Model:
    """Return the model of a run folder, trained now where there is none."""
    if not (folder / WEIGHTS).exists():
        torch.manual_seed(0)
        loss = elbo(warm_up=WARM_UP) if kind == "latents" else nll
        train(untrained(name, kind), data_for(kind), folder, loss=loss, minutes=minutes, seed=0)
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


def measure(model: Model, name: str, kind: str, minutes: float, folder: Path) -> dict[str, Any]:
    """Return the row of a trained model."""
    torch.manual_seed(0)
    data, config = data_for(kind), read_config(folder)
    found = evaluate(model, data, samples=1 if model.exact else SAMPLES)
    seen = [model.receptive_field((0, row, col)).sum().item() for row in range(SIDE) for col in range(SIDE)]
    return {
        "decoder": name,
        "kind": kind,
        "arguments": DECODERS[name],
        "seen": max(seen),
        "parameters": sum(p.numel() for p in model.parameters()),
        "minutes": minutes,
        "trained": {key: config["result"][key] for key in ("steps", "epochs", "seconds", "best_step")},
        "exact": model.exact,
        "samples": None if model.exact else SAMPLES,
        **{key: getattr(found, key) for key in ("nats", "nats_se", "bits_per_dim", "bits_per_dim_se", "count")},
        **(of_latents(model, data) if isinstance(model, PixelVAE) else {}),
        "machine": machine.describe(),
    }


def draws(model: PixelVAE, z: Tensor, noise: Tensor) -> Tensor:
    """Return a draw of p(x|z) for each z (N, F), made of uniforms (N, *shape)."""
    return drive(model.walk(len(z)), Fixed({1: z}, Sample(Joint(noise))))


@torch.no_grad()
def picture(model: Model, alone: Model) -> "Image.Image":
    """Return test digits with draws of what their latents say, draws of other latents, and of none."""
    from PIL import ImageOps

    assert isinstance(model, PixelVAE)
    generator, data = torch.Generator().manual_seed(0), data_for("latents")
    test = data.split("test")
    assert test.labels is not None
    x = test.x[in_turn(torch.arange(len(test)), test.labels)[:SHOWN]]
    noise = model.uniforms(SHOWN * DRAWS, generator)
    own = model.infer(x, generator=generator)[0]
    others = torch.randn(DRAWS, LATENTS, generator=generator)
    same = draws(model, own.repeat_interleave(DRAWS, 0), noise.x)
    of_row = noise.x.view(SHOWN, DRAWS, *data.shape)[:, :1].expand(-1, DRAWS, *data.shape).flatten(0, 1)
    different = draws(model, others.repeat(SHOWN, 1), of_row)
    without = alone.sample(SHOWN * DRAWS // 2, generator=generator)
    blocks = [
        ("a test\ndigit", x),
        ("z of that digit in the whole row,\nother noise in every picture", same),
        ("a z of its own for every column,\nthe noise of a row the same", different),
        ("the decoder without\nlatents", without),
    ]
    figure = beside([block(data, caption, pictures) for caption, pictures in blocks], gap=36)
    return ImageOps.expand(figure, MARGIN, "white")


def block(data: Data, caption: str, x: Tensor) -> "Image.Image":
    """Return pictures in rows, with words above them."""
    from PIL import Image, ImageDraw, ImageFont

    assert isinstance(data.restore, Pictures)
    each = data.restore(x)
    columns = len(each) // SHOWN
    grid = tiles([each[i : i + columns] for i in range(0, len(each), columns)], scale=SCALE)
    out = Image.new("RGB", (grid.width, grid.height + CAPTION), "white")
    out.paste(grid, (0, CAPTION))
    ImageDraw.Draw(out).multiline_text((0, 2), caption, "black", ImageFont.load_default(14), spacing=2)
    return out


def section(result: Mapping[str, Any]) -> str:
    """Return the section of the documentation, from the JSON."""
    rows = {(row["decoder"], row["kind"]): row for row in result["rows"]}
    lines = ["| decoder sees | by itself | told places | under latents, at most | ELBO | KL(q, p) | latents in use |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(name for name, _ in rows):
        alone, places, under = (rows[name, kind] for kind in KINDS)
        arguments = ", ".join(f"{key}={value}" for key, value in alone["arguments"].items())
        lines.append(
            f"| at most {alone['seen']} pixels ({arguments}) | {figure(alone)} | {figure(places)} "
            f"| **{figure(under)}** | {under['elbo_nats']:.2f} | {under['kl_nats']:.2f} "
            f"| {under['active']} of {under['latents']} |"
        )
    row = result["rows"][0]
    of = row["machine"]
    lines += ["", f"{row['count']} test digits; {row['minutes']:g} minutes a training on {of['threads']} thread"]
    return "\n".join(lines) + f" of {of['cpu']}; torch {of['torch']}; {of['date']}."


def figure(row: Mapping[str, Any]) -> str:
    """Return nats and bits/dim of a row."""
    return f"{row['nats']:.2f} ± {row['nats_se']:.2f} ({row['bits_per_dim']:.3f} bits/dim)"


def run(arguments: argparse.Namespace) -> None:
    """Train and measure, write the JSON after each row, and draw."""
    rows: list[dict[str, Any]] = []
    for name in arguments.decoders:
        models = {}
        for kind in KINDS:
            folder = arguments.runs / f"pixel-vae-{name.replace(' ', '-')}-{kind}"
            models[kind] = trained(name, kind, arguments.minutes, folder)
            rows.append(measure(models[kind], name, kind, arguments.minutes, folder))
            write_json(arguments.json, {"benchmark": "pixel_vae", "rows": rows})
            print(f"{folder.name}: {figure(rows[-1])}", flush=True)
        if name == arguments.decoders[0]:
            save_png(picture(models["latents"], models["alone"]), arguments.picture)


def main() -> None:
    """Measure, or print the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--decoders", nargs="+", default=list(DECODERS), choices=list(DECODERS))
    parser.add_argument("--minutes", type=float, default=3.0, help="of each training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print the section of the JSON, and do nothing else")
    arguments = parser.parse_args()
    if arguments.table:
        print(section(read_json(arguments.json)))
        return
    torch.set_num_threads(arguments.threads)
    run(arguments)


if __name__ == "__main__":
    main()
