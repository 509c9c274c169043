"""Numbers and names as a person reads them, the same on a terminal and in a report."""

import inspect
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ancestral.data import Audio, Data
from ancestral.model import Model
from ancestral.recorded import Recorded

__all__ = [
    "Citation",
    "about",
    "citation",
    "counted",
    "data_line",
    "digits_of",
    "documented",
    "evaluation_rows",
    "evaluation_text",
    "lasting",
    "level_lines",
    "level_rows",
    "milliseconds",
    "model_line",
    "plus_minus",
    "shown",
    "size_of",
    "summary_line",
]

PAPER = re.compile(r'^(?P<name>.+?): "(?P<title>.+?)", (?P<authors>.+?),? arXiv (?P<arxiv>\d{4}\.\d{4,5})\.?$')
ARGUMENT = re.compile(r"^    (?P<name>\w+): .*\n?(?:     .*\n?)*", re.MULTILINE)  # with the lines that go on


class Citation(NamedTuple):
    """The paper of a model, as the first line of its module says it."""

    name: str
    title: str
    authors: str
    arxiv: str


def citation(kind: type[Model]) -> Citation:
    """Return the paper of a model; all but the name is empty where its module cites none."""
    module = inspect.getmodule(kind)
    first = (inspect.getdoc(module) or "").partition("\n\n")[0].replace("\n", " ")
    found = PAPER.match(first)
    return Citation(**found.groupdict()) if found else Citation(kind.__name__, "", "", "")


def shown(value: Any) -> str:
    """Return an argument as a user would type it after --set.

    >>> shown((500, 500)), shown(None), shown(True)
    ('500,500', 'null', 'true')
    """
    if isinstance(value, tuple | list):
        return ",".join(shown(item) for item in value)
    if isinstance(value, Recorded):
        return f"{type(value).__name__}({', '.join(f'{k}={shown(v)}' for k, v in value.arguments.items())})"
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else f"{value}"


def counted(count: int, noun: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "step"), counted(1258, "picture")
    ('1 step', '1,258 pictures')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def plus_minus(value: float | None, se: float | None, digits: int = 3) -> str:
    """Return a mean with its standard error, if it has one, to so many digits after the point.

    >>> plus_minus(1.66712, 0.0123), plus_minus(2.87, None), plus_minus(None, None)
    ('1.667 ± 0.012', '2.870', '')
    """
    if value is None:
        return ""
    return f"{value:.{digits}f}" if se is None else f"{value:.{digits}f} ± {se:.{digits}f}"


def digits_of(se: float | None) -> int:
    """Return how many digits after the point show two digits of a standard error.

    >>> digits_of(0.0123), digits_of(1.6), digits_of(120.0), digits_of(None)
    (3, 1, 0, 3)
    """
    return max(0, 1 - math.floor(math.log10(se))) if se and math.isfinite(se) else 3


def evaluation_text(name: str, evaluation: Mapping[str, Any]) -> list[str | list[tuple[str, ...]]]:
    """Return an evaluation as JSON in lines and tables; of a model with latents what its levels do, too."""
    text: list[str | list[tuple[str, ...]]] = [summary_line(evaluation), "", evaluation_rows(name, evaluation)]
    if evaluation.get("levels"):
        text += ["", level_rows(evaluation), *level_lines(evaluation)]
    return text


def evaluation_rows(name: str, evaluation: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a table of an evaluation as JSON: a head, then the model, then trivial models, in bits/dim and nats."""
    given, name = evaluation["given"], name if evaluation["exact"] else f"at most, {name}"
    rows = [(f"{name}, given {given}" if given else name, evaluation)]
    if evaluation["label_averaged"]:
        rows.append((f"{name}, given nothing: p(x|y) averaged over y", evaluation["label_averaged"]))
    if evaluation.get("elbo"):
        rows[0] = (f"{rows[0][0]}, {counted(evaluation['samples'], 'draw')}", evaluation)
        rows.insert(1, (f"{rows[0][0].rpartition(', ')[0]}, ELBO", evaluation["elbo"]))
    if evaluation["ensemble"]:
        rows.append((f"{name}, p(x) averaged over {evaluation['masks']} masks", evaluation["ensemble"]))
    trivial = sorted(evaluation["baselines"].items(), key=lambda item: item[1]["nats"])
    rows += [(f"baseline: {baseline}", figures) for baseline, figures in trivial]
    units = {"bits_per_dim": "bits/sample" if evaluation.get("noun") == "recordings" else "bits/dim", "nats": "nats"}
    units = {key: unit for key, unit in units.items() if evaluation[key] is not None}
    digits = {key: digits_of(evaluation[f"{key}_se"]) for key in units}
    cells = [[plus_minus(f[key], f.get(f"{key}_se"), digits[key]) for key in units] for _, f in rows]
    return [("model", *units.values()), *((what, *values) for (what, _), values in zip(rows, cells, strict=True))]


def level_rows(evaluation: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a table of the levels of latents, the top first: a head, then for each its KL, units and active ones."""
    rows = [
        (
            f"z_{level['level']}",
            plus_minus(level["kl"], level["kl_se"], 2),
            f"{level['units']:,}",
            f"{level['active']:,}",
        )
        for level in reversed(evaluation["levels"])
    ]
    return [("latents", "KL, nats", "units", "active"), *rows]


def level_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """Return a line for each level of latents that has collapsed, and what would do."""
    return [collapse_line(level) for level in evaluation["levels"] if level["collapsed"]]


def collapse_line(level: Mapping[str, Any]) -> str:
    """Return in words that a level has collapsed.

    >>> collapse_line({"level": 2, "kl": 0.0012, "units": 50, "active": 0}).partition(";")[0]
    'level 2 has collapsed: KL 0.00 nats, 0 of 50 units active'
    """
    units = f"{level['active']:,} of {counted(level['units'], 'unit')} active"
    units += ", by what the level above says" if level["active"] else ""
    do = "warm-up or free bits keep it in use (--loss 'elbo(warm_up=2000, free_bits=0.5)')"
    return f"level {level['level']} has collapsed: KL {max(0.0, level['kl']):.2f} nats, {units}; {do}"


def summary_line(evaluation: Mapping[str, Any]) -> str:
    """Return what an evaluation is of: `all 360 examples of the test part of digits, exact log-likelihood`."""
    kind = "exact log-likelihood" if evaluation["exact"] else bound_words(evaluation)
    count, there = evaluation["count"], evaluation["examples"]
    how_many = f"all {count:,}" if count == there else f"{count:,} of {there:,}"
    noun = evaluation.get("noun", "examples")  # which older evaluations do not say
    of = f"{how_many} {noun} of the {evaluation['split']} part of {evaluation['source']}"
    if (rate := evaluation.get("rate")) is not None:
        seconds = evaluation["values"] / rate
        of += f", {seconds:,.{0 if seconds >= 10 else 1}f} s at {rate} Hz"
    return f"{of}, {kind}"


def bound_words(evaluation: Mapping[str, Any]) -> str:
    """Return what kind of bound an evaluation is; of a model with latents, by how many draws, and which."""
    kind, samples = "an upper bound on -log p(x)", evaluation.get("samples")
    if samples is None:
        return kind
    by = "the ELBO" if samples == 1 else f"importance-weighted, {samples:,} draws of the latents"
    digits = digits_of(evaluation["nats_se"])
    return f"{kind} ({by}): at most {plus_minus(evaluation['nats'], evaluation['nats_se'], digits)} nats"


def data_line(data: Data) -> str:
    """Return a data set in one line."""
    if data.recordings:
        return recordings_line(data)
    counts = ", ".join(f"{len(part):,} {name}" for name, part in data.splits.items())
    values = values_of(data.discrete)
    values += "" if data.dequantized is None else " made continuous by noise"
    classes = f", {len(data.classes)} classes" if data.classes else ""
    classes = f", each with {data.given.words}" if data.given is not None else classes
    return f"{data.name}: {counts}; examples {size_of(data.shape)} of {values}{classes}"


def values_of(levels: int | None) -> str:
    """Return what values are: so many levels, or continuous."""
    return "continuous values" if levels is None else f"{levels} levels"


def recordings_line(data: Data) -> str:
    """Return recordings in one line."""
    found = data.recordings
    counts = ", ".join(f"{part['recordings']:,} {name}" for name, part in found.items())
    assert isinstance(data.restore, Audio)
    lasts = ", ".join(lasting(part["seconds"]) for part in found.values())
    levels = f"{data.levels} {'mu-law' if data.restore.mu_law else 'linear'} levels"
    classes = f", {len(data.classes)} classes" if data.classes else ""
    classes = f", each with {data.given.words}" if data.given is not None else classes
    return f"{data.name}: {counts} recordings ({lasts} at {data.restore.rate} Hz); {levels}{classes}"


def lasting(seconds: float) -> str:
    """Return how long something lasts.

    >>> lasting(0.25), lasting(15.9), lasting(1023), lasting(16000)
    ('0.2 s', '16 s', '17 min', '4.4 h')
    """
    if seconds < 99.5:
        return f"{seconds:.{0 if seconds >= 10 or not seconds else 1}f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def milliseconds(samples: int, rate: int) -> str:
    """Return how long samples last, to be said after their number.

    >>> milliseconds(512, 8000)
    ' (64.0 ms at 8000 Hz)'
    """
    return f" ({1000 * samples / rate:.1f} ms at {rate} Hz)"


def size_of(shape: Sequence[int]) -> str:
    """Return a shape as `3 x 32 x 32`, or as a number of columns."""
    return f"of {shape[0]} columns" if len(shape) == 1 else " x ".join(map(str, shape))


def model_line(name: str, model: Model) -> str:
    """Return a model in one line: its parameters and the arguments that make it this model."""
    count = sum(p.numel() for p in model.parameters())
    arguments = {k: v for k, v in model.arguments.items() if k != "shape" and v is not None}
    sees = f"; a step sees the {model.reach:,} before it" if model.reach else ""
    return f"{name}: {count:,} parameters; {', '.join(f'{k}={shown(v)}' for k, v in arguments.items())}{sees}"


def about(kind: type[Model]) -> str:
    """Return the first line of a class's docstring."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def documented(kind: type[Model], arguments: Collection[str]) -> str:
    """Return the docstring of a class for who types its arguments: these ones, no examples and no errors."""
    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    kept = [part for part in paragraphs if not part.startswith((">>>", "Raises:"))]
    return "\n\n".join(typed(part, arguments) if part.startswith("Args:") else part for part in kept)


def typed(paragraph: str, arguments: Collection[str]) -> str:
    """Return the paragraph of a docstring that describes arguments, with these ones only."""
    return ARGUMENT.sub(lambda found: found[0] if found["name"] in arguments else "", paragraph).rstrip()
