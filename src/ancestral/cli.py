"""The command line: thin commands over the functions of the library.

A command returns an `Answer`, which is printed on stdout as text or, with --json, as one JSON object; whatever else is
printed meanwhile goes to stderr. A user's mistake is a ValueError or an OSError, and becomes one line on stderr. What is
heavy is imported inside the commands, so that --help is instant.
"""

import functools
import inspect
import json as json_format
import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NoReturn

import typer

from ancestral import __version__

if TYPE_CHECKING:
    from ancestral.training import Summary

__all__ = ["app", "main"]

app = typer.Typer(
    name="ancestral",
    help="Likelihood models that are directed products: train, evaluate, sample, complete, verify, report.",
    epilog="Begin with: ancestral train gated-pixelcnn --data digits --out runs/digits --minutes 3",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Where something fails, show the traceback.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `ancestral train` wrote.", show_default=False)]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute; auto: a GPU where there is one.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of all random numbers.")]


class Answer(NamedTuple):
    """What a command found.

    Attributes:
        result: for --json.
        text: for a person: lines, and tables as a list of rows of which the first is the header.
        ok: whether the exit status is 0.
    """

    result: dict[str, Any]
    text: Sequence[str | list[tuple[str, ...]]]
    ok: bool = True


def command(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """Make a function a command of the app: it gets --json and --debug, and its answer is printed."""

    @functools.wraps(function)
    def run(*, json: bool, debug: bool, **arguments: Any) -> int:
        with redirect_stdout(sys.stderr):
            answer = function(**arguments)
        print_json(answer.result) if json else print_text(answer.text)
        return 0 if answer.ok else 1

    parameters = list(inspect.signature(function).parameters.values())
    for name, annotation in (("json", Json), ("debug", Debug)):
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app.command()(run)
    return function


def print_json(result: dict[str, Any]) -> None:
    """Print an object in one line; JSON has no NaN and no infinity, so that these become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return str(value) if isinstance(value, Path) else value

    print(json_format.dumps(finite(result), allow_nan=False))


def print_text(text: Sequence[str | list[tuple[str, ...]]]) -> None:
    """Print lines and tables; to something else than a terminal without frames and line breaks."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 240, highlight=False, markup=False, emoji=False)
    for part in text:
        if isinstance(part, str):
            console.print(part, soft_wrap=True)
            continue
        head = box.SIMPLE_HEAD if terminal else None
        table = Table(*part[0], box=head, pad_edge=False, show_edge=False, show_header=any(part[0]))
        for row in part[1:]:
            table.add_row(*row)
        console.print(table)


def note(line: str) -> None:
    """Print a message to stderr."""
    print(line, file=sys.stderr, flush=True)


@app.callback(invoke_without_command=True)
def ancestral(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False, debug: Debug = False
) -> None:
    """Likelihood models that are directed products: train, evaluate, sample, complete, verify, report."""
    if version:
        print(__version__)
        raise typer.Exit


@command
def train(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="One of `ancestral models`.")] = None,
    *,
    data: Annotated[str | None, typer.Option(metavar="SOURCE", help="One of `ancestral data`.")] = None,
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="An argument of the model: layers=12, hidden=500,500, classes=null, "
            "likelihood='DiscretizedLogisticMixture(components=5)'. Again for more; `ancestral models MODEL` lists them.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", min=1, help="How often every example is seen.")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", min=1, help="How many batches are seen.")] = None,
    minutes: Annotated[float | None, typer.Option(metavar="M", help="How long to train.")] = None,
    size: Annotated[int | None, typer.Option(metavar="N", min=1, help="Bring pictures to N x N.")] = None,
    bits: Annotated[int | None, typer.Option(metavar="N", min=1, help="Keep the top N bits of every level.")] = None,
    binarize: Annotated[Literal["static", "dynamic", "threshold"] | None, typer.Option(help="Make 2 levels.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without pictures that cannot be read.")] = False,
    batch_size: Annotated[int | None, typer.Option(metavar="N", min=1, help="Examples in a batch.")] = None,
    lr: Annotated[float | None, typer.Option(metavar="X", help="Learning rate, at its highest.")] = None,
    precision: Annotated[Literal["32", "bf16"] | None, typer.Option(help="Of the computation; 32 by default.")] = None,
    device: Device = "auto",
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="Of all random numbers; 0 by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, as it was begun.")] = False,
) -> Answer:
    """Train MODEL on data and write a run folder.

    Data with labels makes the model class-conditional; --set classes=null makes it unconditional.
    """
    length = {"--epochs": epochs, "--steps": steps, "--minutes": minutes}
    if len(given := [name for name, value in length.items() if value is not None]) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} are given; give one of them")
    if not resume and (model is None or data is None):
        raise typer.BadParameter(f"{'MODEL' if model is None else '--data SOURCE'} is missing (only --resume needs none)")
    from ancestral import training
    from ancestral.report.words import data_line, model_line
    from ancestral.runs import device_named
    from ancestral.settings import begun, resumed

    device_named(device)
    options = {"size": size, "bits": bits, "binarize": binarize, "skip_bad": skip_bad}
    start = resumed(out, model, data, settings or [], options) if resume else begun(
        str(model), str(data), settings or [], options, seed or 0
    )
    note(f"data   {data_line(start.data)}")
    for line in start.data.notes:
        note(f"       {line}")
    note(f"model  {model_line(start.name, start.model)}")
    summary = training.train(
        start.model,
        start.data,
        out,
        epochs=epochs,
        steps=steps,
        minutes=minutes,
        batch_size=batch_size,
        lr=lr,
        precision=precision or start.precision,
        device=device,
        seed=start.seed if seed is None else seed,
        resume=resume,
    )
    return trained(out, summary)


def trained(out: Path, summary: "Summary") -> Answer:
    """Answer with what training came to, and the command to type next."""
    unit = "nats" if summary.valid_bits_per_dim is None else "bits/dim"
    value = summary.valid_nats if summary.valid_bits_per_dim is None else summary.valid_bits_per_dim
    figure = "there are no validation examples" if value is None else f"validation: {value:.3f} {unit}"
    line = f"{summary.steps:,} steps in {summary.seconds / 60:.1f} minutes; {figure} (weights of step {summary.best_step:,})"
    then = f"ancestral train --out {out} --resume" if summary.interrupted else f"ancestral evaluate {out}"
    return Answer({"run": str(out), **asdict(summary)}, [line, f"next: {then}"])


@command
def evaluate(
    run: RunFolder,
    data: Annotated[str | None, typer.Option(metavar="SOURCE", help="Other data than that of the run.")] = None,
    split: Annotated[Literal["train", "valid", "test"], typer.Option(help="Which part of the data.")] = "test",
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="N examples, drawn with a fixed seed.")] = None,
    device: Device = "auto",
) -> Answer:
    """Say how likely data is under a trained model, beside trivial models."""
    from ancestral.checkpoint import write_json
    from ancestral.evaluation import evaluate as evaluation_of
    from ancestral.report.words import evaluation_rows, summary_line
    from ancestral.runs import open_run

    opened = open_run(run, device)
    source = opened.data(data)
    note(f"evaluating {limit or len(source.split(split)):,} examples of the {split} part of {source.name}")
    found = evaluation_of(opened.model, source, split, limit=limit).to_json()
    found |= {"source": source.name, "examples": len(source.split(split)), "limit": limit}
    path = run / ("-".join(["evaluation", split, *([Path(data).stem] if data else [])]) + ".json")
    write_json(path, found)
    rows = evaluation_rows(opened.name, found)
    return Answer(found | {"written": str(path)}, [summary_line(found), "", rows, "", f"written: {path}"])


@command
def sample(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A picture .png, arrays .npz or .npy, a table .csv.")],
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many.")] = 64,
    context: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Name or number of a class; by default all in turn.")
    ] = None,
    temperature: Annotated[float, typer.Option(metavar="T", min=0.0, help="Of each factor; 0 takes the mode.")] = 1.0,
    seed: Seed = 0,
    device: Device = "auto",
) -> Answer:
    """Draw samples; of a class-conditional model a row for each class."""
    from ancestral.report.draws import check_out, drawn, labels_for, save_draws
    from ancestral.runs import open_run

    opened = open_run(run, device)
    check_out(out, opened.restore)
    labels = labels_for(opened, n, context)
    x, seconds = timed(lambda: drawn(opened, n, labels, temperature, seed))
    save_draws(x, labels, opened.restore, out)
    named = None if labels is None else [(opened.classes or ())[label] for label in labels.tolist()]
    rows = "" if named is None else f", classes {', '.join(dict.fromkeys(named))}"
    result = {"written": str(out), "n": n, "labels": named, "seed": seed, "temperature": temperature, "seconds": seconds}
    return Answer(result, [f"{n} samples{rows} in {seconds:.2g} s: {out}"])


@command
def complete(
    run: RunFolder,
    known: Annotated[str, typer.Option(metavar="PART", help="What is known: top, left, center, or the white of MASK.png.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A picture, .png.")],
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Completions of each picture.")] = 8,
    picture: Annotated[
        Path | None, typer.Option("--input", metavar="IMAGE", help="A picture; by default eight of the test part.")
    ] = None,
    context: Annotated[str | None, typer.Option(metavar="LABEL", help="Class of the picture.")] = None,
    proposals: Annotated[
        int, typer.Option(metavar="N", min=1, help="Completions to choose one from, by what is known later.")
    ] = 1,
    seed: Seed = 0,
    device: Device = "auto",
) -> Answer:
    """Complete pictures of which a part is known.

    Each row shows a picture, the part of it that is known, and completions.
    """
    from ancestral.report.draws import check_picture, completed, originals
    from ancestral.report.known import known_part
    from ancestral.report.pictures import completions, save_png
    from ancestral.runs import open_run

    opened = open_run(run, device)
    check_picture(out, opened)
    mask = known_part(known, *opened.model.shape[1:])
    x, labels = originals(opened, picture, context)
    drawings, seconds = timed(lambda: completed(opened, x, mask, labels, n, proposals, seed))
    restore = opened.restore
    save_png(completions(restore(x), mask, [restore(row) for row in drawings]), out)
    result = {"written": str(out), "pictures": len(x), "n": n, "known": int(mask.sum()), "seconds": seconds}
    columns = f"columns: picture, the part that is known ({known}), {n} completions"
    return Answer(result, [f"{len(x) * n} completions in {seconds:.2g} s: {out}", columns])


@command
def verify(run: RunFolder, device: Device = "auto") -> Answer:
    """Prove what a model promises: no leak, sums to one, walk = parallel; show what a pixel sees."""
    from ancestral.checkpoint import replacing, write_json
    from ancestral.report.verify import verified
    from ancestral.runs import open_run

    opened = open_run(run, device)
    verdict = verified(opened)
    result = verdict.to_json()
    write_json(run / "verify.json", result)
    text: list[Any] = ["Small copies of the model, with random weights:", [("", "", ""), *verdict.contract], ""]
    text += [f"The trained model, on {verdict.examples}:", [("", "", ""), *verdict.trained]]
    if verdict.picture is not None:
        with replacing(run / "verify.png") as part:
            part.write_bytes(verdict.picture)
        result["written"] = str(run / "verify.png")
        text += ["", f"picture: {run / 'verify.png'}"]
    return Answer(result, text if verdict.passed else [*text, "", "verification failed"], verdict.passed)


@command
def report(run: RunFolder, device: Device = "auto") -> Answer:
    """Write RUN/report.html: figures, curves, samples, completions, where the bits are, timings."""
    from ancestral.report import write_report
    from ancestral.runs import open_run

    path = write_report(open_run(run, device))
    return Answer({"written": str(path)}, [f"written: {path}"])


@command
def models(name: Annotated[str | None, typer.Argument(metavar="MODEL", help="Say more about this one.")] = None) -> Answer:
    """List the models, or the arguments of one."""
    from ancestral.models import MODELS
    from ancestral.report.words import about, citation

    if name is not None:
        return about_model(name)
    found = {name: (kind, citation(kind)) for name, kind in MODELS.items()}
    result = {name: {"class": kind.__name__, "doc": about(kind), **paper._asdict()} for name, (kind, paper) in found.items()}
    rows = [(name, paper.arxiv, paper.title, about(kind)) for name, (kind, paper) in found.items()]
    return Answer(result, [[("model", "arXiv", "paper", "what it is"), *rows]])


def about_model(name: str) -> Answer:
    """Answer with the arguments of a model."""
    from ancestral.report.words import shown
    from ancestral.settings import arguments_of, model_named

    kind = model_named(name)
    parameters = inspect.signature(kind).parameters
    defaults = {key: shown(parameters[key].default) for key in arguments_of(kind)}
    settings = [("--set", "default"), *defaults.items()]
    return Answer({"name": name, "arguments": defaults}, [inspect.getdoc(kind) or "", "", settings])


@command
def data() -> Answer:
    """List the sources of data."""
    from ancestral.data import SOURCES

    return Answer(dict(SOURCES), [[("source", "what it is"), *SOURCES]])


def timed(compute: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and the seconds that it took."""
    begin = time.perf_counter()
    return compute(), time.perf_counter() - begin


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 it failed, 2 wrong usage.

    Args:
        args: words after the program's name; those of this process by default.
    """
    words = list(sys.argv[1:] if args is None else args) or ["--help"]
    log_to_stderr()
    try:
        status = app(words, prog_name="ancestral", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        line, status = explained(error)
        note(f"error: {line}")
    sys.exit(status)


def explained(error: Exception) -> tuple[str, int]:
    """Return one line that says what is wrong, and the exit status."""
    if hasattr(error, "format_message"):  # typer's, of wrong usage
        line = " ".join(error.format_message().split())
        return line.removeprefix("Invalid value: ").replace("Value error, ", ""), 2
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", 1
    line = " ".join(str(error).split())
    if isinstance(error, ValueError | OSError):
        return line, 1
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: a smaller --batch-size, -n or --limit would do ({line or 'no more to be had'})", 1
    return f"a mistake of Ancestral: {type(error).__name__}: {line} (--debug shows where)", 1


def log_to_stderr() -> None:
    """Let what the library has to say appear on stderr, a line each."""
    log = logging.getLogger("ancestral")
    log.handlers = [logging.StreamHandler(sys.stderr)]
    log.handlers[0].setFormatter(logging.Formatter("%(message)s"))
    log.setLevel(logging.INFO)
