"""What report.html says of a run: one function a section, each HTML or nothing."""

import math
from datetime import datetime
from html import escape
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ancestral import __version__
from ancestral.checkpoint import read_json
from ancestral.data import Data
from ancestral.data.restore import Pictures
from ancestral.files import read_records, replacing
from ancestral.models.latent import LatentVariables
from ancestral.report import audio, latents
from ancestral.report.draws import completed, drawn, labels_for, varied
from ancestral.report.figures import bars, curves, example_maps, heat, svg_of
from ancestral.report.giving import from_test, given_samples, page_of
from ancestral.report.known import known_part
from ancestral.report.page import details, page, paragraph, picture, section, table
from ancestral.report.pictures import completions, in_rows, png, rgb
from ancestral.report.speed import rate, seconds, speeds_of
from ancestral.report.verify import quiet
from ancestral.report.words import citation, evaluation_rows, lasting, shown, summary_line
from ancestral.runs import Run

__all__ = ["write_report"]

SAMPLES, OF_A_CLASS, OF_PICTURES = 64, 8, 32
COMPLETED, TIMES = 6, 8  # pictures, and completions of each
MEASURED = 1000  # examples of the map of bits
BATCH = 16  # of the timings
WIDEST = 200  # columns of a table that are drawn
NATS = {"nats": 1.0, "bits": math.log(2)}  # of a unit


def write_report(run: Run) -> Path:
    """Write report.html where the results of a run are, and return its path.

    Raises:
        OSError: it cannot be written.
    """
    data, missing = data_of(run)
    if isinstance(run.model, LatentVariables):  # whose values have no likelihood each, to map
        said = [latents.reconstructions, latents.traversal, latents.between, latents.top_fixed, completing]
        shows, speed = [samples, latents.smooth_samples, latents.levels_section, *said], timings(run)
    elif run.audio is not None:
        shows = [audio.samples_section, audio.continuations, audio.bits_section]
        speed = audio.timings_section(run)
    else:
        shows, speed = [samples, completing, bits], timings(run)
    seen = [show(run, data) for show in shows]
    sections = [likely(run), training(run), *seen, verification(run), speed, facts(run)]
    foot = f"Written by ancestral {__version__} on {datetime.now():%Y-%m-%d %H:%M}."
    path = run.results / "report.html"
    with replacing(path) as part:
        part.write_text(page(f"{run.name} on {run.source}", lead(run, missing), sections, foot), "utf-8")
    return path


def data_of(run: Run) -> tuple[Data | None, str]:
    """Return the data of a run; where it cannot be read any more, nothing and the reason."""
    try:
        return run.data(), ""
    except (OSError, ValueError) as error:
        return None, f"The data of this run cannot be read, so that parts of this report are missing: {error}"


def lead(run: Run, missing: str) -> str:
    """Return the paper, the size, and what is missing."""
    paper = citation(type(run.model))
    count = sum(p.numel() for p in run.model.parameters())
    link = f'<a href="https://arxiv.org/abs/{paper.arxiv}">arXiv {paper.arxiv}</a>'
    cited = f"“{escape(paper.title)}”, {escape(paper.authors)}, {link}. " if paper.arxiv else ""
    what = "the label" if run.given is None else run.given.words
    given = "" if run.model.conditioner is None else f", conditioned on {what}"
    reach = f" {audio.reach_line(run)}" if run.model.reach else ""
    text = f'<p class="soft">{cited}{count:,} parameters{given}.{escape(reach)}</p>'
    return text + (paragraph(missing) if missing else "")


def likely(run: Run) -> str:
    """Return the evaluations that were made, or how to make one."""
    found = [evaluated(run, path) for path in run.found("evaluation-*.json")]
    if not found:
        return section("How likely", paragraph(f"Not evaluated yet: ancestral evaluate {run.folder}"))
    parts = [content for _, content in sorted(found, key=lambda one: one[0])]
    note = "± one standard error over examples. Bits/dim are nats / (D log 2) for D values; lower is better."
    if run.audio is not None:
        note = "± one standard error over recordings. Bits/sample are all bits over all samples; lower is better."
    return section("How likely", *parts, paragraph(note, soft=True))


def evaluated(run: Run, path: Path) -> tuple[tuple[bool, bool], str]:
    """Return the place of a recorded evaluation, the run's own data and the test part before others, and its table.

    Raises:
        ValueError: the file holds none.
    """
    found = read_json(path)
    try:
        head, *rows = evaluation_rows(run.name, found)
        content = paragraph(summary_line(found)) + table(head, rows, range(1, len(head)), first=True)
        return (found["source"] != run.source, found["split"] != "test"), content
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: it holds no evaluation; ancestral evaluate writes it anew") from error


def training(run: Run) -> str:
    """Return the curves of training and validation."""
    records = read_records(run.folder / "metrics.jsonl")
    unit = "bits_per_dim" if any("bits_per_dim" in r for r in records) else "nats"
    lines = {}
    for split in ("train", "valid"):
        points = [(r["step"], r[unit]) for r in records if r["split"] == split and r.get(unit) is not None]
        if points:
            lines[split] = ([x for x, _ in points], [y for _, y in points])
    if not lines:
        return ""
    shown_unit = "bits/sample" if run.audio is not None else "bits/dim"
    drawing = svg_of(curves(lines, "step", unit.replace("bits_per_dim", shown_unit)), "curves")
    return section(
        "Training", picture(drawing, "valid is of the averaged weights", "curves of training and validation")
    )


def samples(run: Run, data: Data | None) -> str:
    """Return samples, a row for each class, or for each picture that the model is given."""
    if not isinstance(run.restore, Pictures):
        return ""
    if run.given is not None:
        return samples_given(run, data)
    names = run.classes
    labels = labels_for(run, SAMPLES if names is None else OF_A_CLASS * len(names))
    x = drawn(run, SAMPLES if labels is None else len(labels), labels)
    caption = "drawn from the model" if names is None else f"a row for each class: {', '.join(names)}"
    content = png(in_rows(run.pictures(x), None if labels is None else labels.tolist()))
    return section("Samples", picture(content, caption, "samples of the model"))


def samples_given(run: Run, data: Data | None) -> str:
    """Return samples beside what the model was given of test pictures, and these."""
    if data is None or not len(data.split("test")):
        return ""
    giving = from_test(run, data, OF_PICTURES)
    content = png(page_of(run, giving, given_samples(run, giving)))
    caption = "what the model was given of a test picture, samples, and the picture"
    return section("Samples", picture(content, caption, "samples of the model"))


def completing(run: Run, data: Data | None) -> str:
    """Return several completions of the same upper halves."""
    if data is None or not isinstance(run.restore, Pictures) or not len(data.split("test")):
        return ""
    x, context = varied(data, COMPLETED)
    known, context = known_part("top", *run.model.shape[1:]), run.told(context)
    with quiet():  # a report has no proposals to advise
        drawings = completed(run, x, known, context, TIMES)
    content = png(completions(run.pictures(x), known, [run.pictures(row) for row in drawings]))
    given = "" if context is None else f" and {'its label' if run.given is None else run.given.words}"
    caption = f"a test picture, what the model was given of it{given}, and {TIMES} ways to go on"
    return section("Completions", picture(content, caption, "completions of upper halves"))


def bits(run: Run, data: Data | None) -> str:
    """Return where the bits are: a map over the pixels, or a bar for each column."""
    if data is None or not len(data.split("test")):
        return ""
    index = data.limited("test", MEASURED)
    unit = "nats" if data.discrete is None else "bits"
    values = (nats_of(run, *data.batch("test", index)) - data.log_cell / math.prod(data.shape)) / NATS[unit]
    if values.dim() == 4:
        drawing = pixel_maps(run, data, values.sum(1), unit)
    elif values.dim() == 2 and values.shape[1] <= WIDEST:
        drawing = column_bars(run, values.mean(0), unit)
    else:
        return ""
    return section(f"Where the {unit} are", drawing)


@torch.no_grad()
def nats_of(run: Run, x: Tensor, context: Tensor | None) -> Tensor:
    """Return -log p of each value given those before it, (N, *shape) float64 on the CPU."""
    parts = []
    for index in torch.arange(len(x)).split(128):
        own = None if run.model.conditioner is None or context is None else context[index].to(run.model.device)
        parts.append(-run.model.log_probs(x[index].to(run.model.device), own).cpu().double())
    return torch.cat(parts)


def pixel_maps(run: Run, data: Data, values: Tensor, unit: str) -> str:
    """Return the mean map of the bits of each pixel, and those of some examples, values (N, H, W)."""
    mean = svg_of(heat(values.mean(0).numpy(), f"{unit} of a pixel"), "mean")
    parts = [picture(mean, f"mean over {len(values):,} test pictures", "map of the mean bits of each pixel")]
    if isinstance(run.restore, Pictures):
        x, context = varied(data, COMPLETED)
        maps = nats_of(run, x, context).sum(1) / NATS[unit]
        drawing = svg_of(
            example_maps([rgb(p) for p in run.pictures(x)], maps.numpy(), f"{unit} of a pixel"), "examples"
        )
        parts.append(
            picture(drawing, "what surprised the model in single pictures", "maps of the bits of single pictures")
        )
    return "\n".join(parts)


def column_bars(run: Run, values: Tensor, unit: str) -> str:
    """Return a bar for each column of a table, values (D,)."""
    names = getattr(run.restore, "columns", None) or [str(i) for i in range(len(values))]
    drawing = svg_of(bars(names, values.tolist(), f"{unit} of the column, given the columns before it"), "columns")
    return picture(drawing, "mean over the test part", f"{unit} of each column")


def verification(run: Run) -> str:
    """Return what `ancestral verify` found, if it was run."""
    path, drawing = run.results / "verify.json", run.results / "verify.png"
    if not path.exists():
        return section("Verified", paragraph(f"Not verified yet: ancestral verify {run.folder}"))
    found = read_json(path)
    parts = []
    if drawing.exists():
        parts.append(picture(drawing.read_bytes(), "measured on the trained model", "receptive field", smooth=True))
    for title, kind in (("the trained model", "trained"), ("small copies with random weights", "contract")):
        try:
            rows = [(f["name"], f["status"], f["detail"]) for f in found[kind]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: it holds no findings; ancestral verify writes it anew") from error
        parts.append(table((title, "", ""), rows))
    return section("Verified", *parts)


@torch.no_grad()
def timings(run: Run) -> str:
    """Return how long a parallel pass and a sampled batch take, here and now, and how fast training was."""
    context = run.some_context(BATCH)
    context = None if context is None else context.to(run.model.device)
    x = drawn(run, BATCH, context).to(run.model.device)
    one = min(seconds(lambda: run.model.log_prob(x, context)) for _ in range(3))
    walk = seconds(lambda: drawn(run, BATCH, context))
    naive = f"{math.prod(run.model.shape):,}"
    rows = [
        (f"a parallel pass of {BATCH} examples", f"{1000 * one:.3g} ms", rate(BATCH / one), "1"),
        (f"{BATCH} samples", f"{1000 * walk:.3g} ms", rate(BATCH / walk), f"{walk / one:.2g}"),
        ("as many by a naive sampler: a pass for each value", "", "", naive),
    ]
    if speeds := speeds_of(run):
        rows.append(("training, when it ran", "", rate(float(np.median(speeds))), ""))
    where = f"now, on {run.model.device}, threads: {torch.get_num_threads()}"
    return section("Timings", table((where, "time", "examples/s", "parallel passes"), rows, (1, 2, 3)))


def facts(run: Run) -> str:
    """Return the arguments of the model, the data, and how it was trained."""
    data = run.config["data"]
    arguments = [(name, shown(value)) for name, value in run.model.arguments.items()]
    counts = ", ".join(f"{count:,} {name}" for name, count in data["counts"].items())
    options = [(name, shown(value)) for name, value in data["options"].items() if value]
    recorded = data.get("recordings", {})  # which only recordings have
    levels = shown(data["levels"] or data.get("dequantized"))
    levels += ", mu-law" if run.audio is not None and run.audio.mu_law else ""
    about = [("source", run.source), ("windows" if recorded else "examples", counts), ("levels", levels), *options]
    parts = [f"{part['recordings']:,} {name} ({lasting(part['seconds'])})" for name, part in recorded.items()]
    about += [("recordings", ", ".join(parts))] if recorded else []
    about += [("note", note) for note in data["notes"]]
    settings = {**run.config.get("training", {}), **run.config.get("versions", {})}
    blocks = [f"<h3>{title}</h3>{details(rows)}" for title, rows in (("Model", arguments), ("Data", about))]
    return section("What it is", *blocks, f"<h3>Training</h3>{details([(k, shown(v)) for k, v in settings.items()])}")
