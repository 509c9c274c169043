"""The command line: thin commands over the functions of the library, what they take and what they answer.

What is heavy is imported inside the commands, so that --help is instant.
"""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from ancestral import __version__
from ancestral.cli import compressing, exporting, scoring
from ancestral.cli.console import Answer, Debug, command_of, note, progress, status_of, timed
from ancestral.cli.options import (
    Compile,
    CompileSteps,
    Context,
    Device,
    GivenName,
    Limit,
    LossName,
    Mutate,
    Part,
    RunFolder,
    Seconds,
    Seed,
    Settings,
    Source,
    at_least_one,
)

if TYPE_CHECKING:
    from ancestral.runs import Run

__all__ = ["app", "main"]

app = typer.Typer(
    name="ancestral",
    help="Likelihood models that are directed products: train, evaluate, sample, complete, verify, report.",
    epilog="Begin with: ancestral train gated-pixelcnn --data digits --out runs/digits --minutes 3",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
command = command_of(app)


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
    more: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Further values after --set.")] = None,
    *,
    recipe: Annotated[str | None, typer.Option(metavar="NAME", help="One of `ancestral recipes`, for MODEL.")] = None,
    data: Source = None,
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run.")],
    settings: Settings = None,
    epochs: Annotated[int | None, at_least_one("How often every example is seen, at most.")] = None,
    steps: Annotated[int | None, at_least_one("How many batches are seen.")] = None,
    minutes: Annotated[float | None, typer.Option(metavar="M", help="How long to train.")] = None,
    size: Annotated[int | None, at_least_one("Bring pictures to N x N.")] = None,
    bits: Annotated[int | None, at_least_one("Keep the top N bits of every level.")] = None,
    binarize: Annotated[Literal["static", "dynamic", "threshold"] | None, typer.Option(help="Make 2 levels.")] = None,
    given: GivenName = None,
    dequantize: Annotated[bool, typer.Option("--dequantize", help="Make levels continuous, by uniform noise.")] = False,
    mutate: Mutate = None,
    rate: Annotated[int | None, typer.Option(metavar="HZ", min=1, help="Bring recordings to HZ samples/s.")] = None,
    linear: Annotated[bool, typer.Option("--linear", help="Take 16-bit samples, not 256 codes of the mu-law.")] = False,
    window: Annotated[int | None, at_least_one("Samples of an example, 4096 by default.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without files that cannot be read.")] = False,
    batch_size: Annotated[int | None, at_least_one("Examples in a batch.")] = None,
    lr: Annotated[float | None, typer.Option(metavar="X", help="Learning rate, at its highest.")] = None,
    weight_decay: Annotated[float | None, typer.Option(metavar="X", help="Of AdamW; more overfits less.")] = None,
    loss: LossName = None,
    precision: Annotated[Literal["32", "bf16"] | None, typer.Option(help="Of the computation; 32 by default.")] = None,
    device: Device = "auto",
    compiled: CompileSteps = False,
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="Of all random numbers; 0 by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, as it was begun.")] = False,
) -> Answer:
    """Train MODEL on data and write a run folder, or follow a recipe, of which every option can be changed.

    Data with labels makes the model class-conditional; --set classes=null makes it unconditional. --given grey learns
    to colour pictures, small to bring back what is lost at a quarter of their size, mel to make sound of a spectrogram.
    """
    settings, model = all_settings(settings, model, more)
    limits: dict[str, Any] = {"epochs": epochs, "steps": steps, "minutes": minutes}
    check_usage(limits, model, recipe, data, resume)
    from ancestral import training
    from ancestral.cli.recipes import begun_by, check_recipe_of, recipe_named, training_by
    from ancestral.cli.said import say_start, trained
    from ancestral.cli.settings import begun, loss_of, resumed
    from ancestral.runs import device_named
    from ancestral.training.resuming import earlier

    device_named(device)
    earlier(out, resume)  # an occupied folder is said before the data is read
    followed = None if recipe is None else recipe_named(recipe)
    options: dict[str, Any] = {"size": size, "bits": bits, "binarize": binarize, "given": given, "mutate": mutate}
    options |= {"dequantize": dequantize, "rate": rate, "linear": linear, "window": window, "skip_bad": skip_bad}
    how = limits | {"batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "precision": precision}
    how |= {"device": device, "compiled": compiled, "loss": loss_of(loss, out, resume, followed)}
    how |= {"seed": seed, "resume": resume}
    if resume:
        check_recipe_of(out, recipe)
        start = resumed(out, model, data, settings, options)
    elif followed is not None:
        start = begun_by(str(recipe), followed, data, settings, options, seed or 0)
        how = training_by(followed, how)
    else:
        start = begun(str(model), str(data), settings, options, seed or 0)
    say_start(start, recipe, followed)
    config = {} if resume or followed is None else {"recipe": {"name": recipe, **followed.to_json()}}
    return trained(out, start, training.train(start.model, start.data, out, config=config, **how))


def all_settings(settings: list[str] | None, model: str | None, more: list[str] | None) -> tuple[list[str], str | None]:
    """Return all NAME=VALUE that follow --set, and MODEL: a second value after --set stands where MODEL does."""
    if model is not None and "=" in model:
        more, model = [model, *(more or [])], None
    return [*(settings or []), *(more or [])], model


def check_usage(limits: dict[str, Any], model: str | None, recipe: str | None, data: str | None, resume: bool) -> None:
    """Raise the error of wrong usage where options of `train` exclude or need each other."""
    given = [f"--{name}" for name, value in limits.items() if value is not None]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} are given; give one of them")
    if model is not None and recipe is not None:
        raise typer.BadParameter(f"MODEL ({model}) and --recipe {recipe} are given; give one of them")
    if not resume and recipe is None and (model is None or data is None):
        missing = "MODEL (or --recipe NAME)" if model is None else "--data SOURCE"
        raise typer.BadParameter(f"{missing} is missing: ancestral train MODEL --data SOURCE --out RUN")


@command
def evaluate(
    run: RunFolder,
    data: Source = None,
    split: Part = "test",
    limit: Limit = None,
    device: Device = "auto",
    samples: Annotated[
        int, at_least_one("Of models with latents: the importance-weighted bound of N draws; 1 is the ELBO.")
    ] = 1,
) -> Answer:
    """Say how likely data is under a trained model, beside trivial models: that of the run, or other data."""
    from ancestral.checkpoint import write_json
    from ancestral.evaluation import evaluate as evaluation_of
    from ancestral.report.words import evaluation_text
    from ancestral.runs import open_run

    opened = open_run(run, device)
    source = opened.data(data)
    many, noun = len(source.split(split)), "examples"
    if source.recordings:
        many, noun = source.recordings[split]["recordings"], "recordings"
    draws = "" if samples == 1 else f", {samples:,} draws of the latents each"
    note(f"evaluating {min(limit or many, many):,} {noun} of the {split} part of {source.name}{draws}")
    with progress() as bar:
        how: dict[str, Any] = {"limit": limit, "samples": samples, "on_progress": bar}
        found = evaluation_of(opened.model, source, split, **how).to_json()
    found |= {"source": source.name, "limit": limit}
    of = [split, *([Path(data).stem] if data else []), *([f"limit{limit}"] if limit else [])]
    of += [f"samples{samples}"] if samples > 1 else []
    path = opened.results / f"evaluation-{'-'.join(of)}.json"
    answer = Answer(found, evaluation_text(opened.name, found))
    return answer.written(path, lambda: write_json(path, found))


@command
def sample(
    run: RunFolder,
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="A picture .png, sound .wav or .flac, arrays .npz or .npy, a table .csv."),
    ],
    n: Annotated[int | None, typer.Option("-n", metavar="N", min=1, help="How many: 64; of recordings 1.")] = None,
    seconds: Seconds = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("--input", metavar="FILE", help="What the model is given; by default of the test part."),
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="Further files after --input.")] = None,
    context: Context = None,
    temperature: Annotated[float, typer.Option(metavar="T", min=0.0, help="Of each factor; 0 takes the mode.")] = 1.0,
    compiled: Compile = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> Answer:
    """Draw samples; of a class-conditional model a row for each class, or of one class.

    Of a model that is given pictures (train --given) a row for each: what was given, samples, the original if known.
    Sound is written to a .wav while it is made, several as OUT-1.wav and so on, and stays when Ctrl-C ends it; other
    files are written at the end. Of a model that is given spectrograms it is as long as their recordings.
    """
    from ancestral.cli.sounds import check_no_sound, sample_sound
    from ancestral.report.draws import check_out, drawn, labels_for, save_draws
    from ancestral.report.giving import check_giving
    from ancestral.report.words import counted
    from ancestral.runs import listed, open_run

    opened, files = open_run(run, device), [*(files or []), *(more or [])]
    check_giving(opened, files, context)
    if opened.audio is not None:
        how: dict[str, Any] = {"temperature": temperature, "seed": seed, "compiled": compiled}
        return sample_sound(opened, out, n=n, seconds=seconds, files=files, context=context, **how)
    check_no_sound(opened, seconds, compiled)
    check_out(out, opened.restore)
    n = n or 64
    if opened.given is not None:
        return sample_given(opened, files, out, n, temperature, seed)
    labels = labels_for(opened, n, context)
    x, took = timed(lambda: drawn(opened, n, labels, temperature, seed))
    save_draws(opened, x, labels, out)
    named = None if labels is None else [(opened.classes or ())[label] for label in labels.tolist()]
    classes = "" if named is None else f", classes {listed(tuple(dict.fromkeys(named)))}"
    settings = {"n": n, "labels": named, "seed": seed, "temperature": temperature}
    result = {"written": str(out), **settings, "seconds": took}
    return Answer(result, [f"{counted(n, 'sample')}{classes} in {took:.2g} s: {out}"])


def sample_given(run: "Run", files: list[Path], out: Path, n: int, temperature: float, seed: int) -> Answer:
    """Draw and write samples of a run whose model is given pictures."""
    from ancestral.report.giving import from_files, from_test, given_samples, save_given
    from ancestral.report.words import counted

    giving = from_files(run, files, n) if files else from_test(run, run.data(), n, seed)
    x, seconds = timed(lambda: given_samples(run, giving, temperature, seed))
    save_given(run, giving, x, out)
    settings = {"n": n, "given": run.config["data"]["options"]["given"], "seed": seed, "temperature": temperature}
    result = {"written": str(out), **settings, "pictures": len(giving.pictures), "seconds": seconds}
    columns = "columns: what was given, samples, the original where it is known"
    line = f"{counted(n, 'sample')} given {counted(len(giving.pictures), 'picture')} in {seconds:.2g} s: {out}"
    return Answer(result, [line, *([columns] if out.suffix.lower() == ".png" else [])])


@command
def complete(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A picture .png, sound .wav or .flac, its levels .npz.")],
    known: Annotated[
        str | None, typer.Option(metavar="PART", help="Of pictures: top, left, center, or what is white in MASK.png.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", metavar="N", min=1, help="How many: 8; of recordings 1.")] = None,
    seconds: Seconds = None,
    file: Annotated[Path | None, typer.Option("--input", metavar="FILE", help="By default of the test part.")] = None,
    context: Context = None,
    proposals: Annotated[int, at_least_one("Draw N, and choose one by what is known after it.")] = 1,
    compiled: Compile = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> Answer:
    """Complete pictures of which a part is known, or go on after a recording.

    Each row shows a picture, the part of it that is known, and completions. A sound holds the recording (by default the
    first half of one of the test part) and --seconds that follow; several are written as OUT-1.wav and so on.
    """
    from ancestral.cli.sounds import check_no_sound, complete_sound
    from ancestral.report.draws import check_picture, completed, originals
    from ancestral.report.known import known_part
    from ancestral.report.pictures import completions, save_png
    from ancestral.report.words import counted
    from ancestral.runs import open_run

    opened = open_run(run, device)
    if opened.audio is not None:
        how: dict[str, Any] = {"proposals": proposals, "seed": seed, "compiled": compiled}
        return complete_sound(opened, out, n=n, seconds=seconds, file=file, known=known, context=context, **how)
    check_no_sound(opened, seconds, compiled)
    check_picture(out, opened)
    if known is None:
        raise typer.BadParameter("--known PART is missing: which part of the pictures is known (top, left, center)")
    mask, n = known_part(known, *opened.model.shape[1:]), n or 8
    x, labels = originals(opened, file, context)
    drawings, took = timed(lambda: completed(opened, x, mask, labels, n, proposals, seed))
    save_png(completions(opened.pictures(x), mask, [opened.pictures(row) for row in drawings]), out)
    result = {"written": str(out), "pictures": len(x), "n": n, "known": int(mask.sum()), "seconds": took}
    columns = f"columns: picture, the part that is known ({known}), {counted(n, 'completion')}"
    return Answer(result, [f"{counted(len(x) * n, 'completion')} in {took:.2g} s: {out}", columns])


@command
def encode(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Arrays .npz: z_1, z_2 and so on, x_label if known.")],
    data: Source = None,
    split: Part = "test",
    limit: Limit = None,
    device: Device = "auto",
) -> Answer:
    """Write what a model with latents makes of examples: the means of the posterior of every level.

    These are representations, for a classifier or a search: examples are in the order of the data, with their labels
    where it has labels.
    """
    from ancestral.cli.codes import encoded
    from ancestral.runs import open_run

    return encoded(open_run(run, device), out, data, split, limit)


compressing.add_to(app)
scoring.add_to(app)
exporting.add_to(app)


@command
def verify(run: RunFolder, device: Device = "auto") -> Answer:
    """Prove what a model promises: no leak, sums to one, walk = parallel; show what a pixel, or a sample, sees."""
    from ancestral.report.verify import verified, write_verdict
    from ancestral.runs import open_run

    opened = open_run(run, device)
    verdict = verified(opened)
    text: list[Any] = ["Small copies of the model, with random weights:", [("", "", ""), *verdict.contract], ""]
    text += [f"The trained model, on {verdict.examples}:", [("", "", ""), *verdict.trained]]
    text += [] if verdict.passed else ["", "verification failed"]
    answer = Answer(verdict.to_json(), text, verdict.passed)
    path = opened.results / ("verify.json" if verdict.picture is None else "verify.png")
    return answer.written(path, lambda: write_verdict(verdict, opened.results))


@command
def report(run: RunFolder, device: Device = "auto") -> Answer:
    """Write report.html into RUN: figures, curves, samples, completions, where the bits are, timings."""
    from ancestral.report import write_report
    from ancestral.runs import open_run

    path = write_report(open_run(run, device))
    return Answer({"written": str(path)}, [f"written: {path}"])


@command
def models(
    name: Annotated[str | None, typer.Argument(metavar="MODEL", help="Say more about this one.")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Trained ones that are installed with it.")] = False,
) -> Answer:
    """List the models, or the arguments of one; with --pretrained those that are trained, or the card of one."""
    from ancestral.models import MODELS
    from ancestral.report.words import about, citation

    if pretrained:
        return exporting.installed() if name is None else exporting.card_of(name)
    if name is not None:
        return about_model(name)
    found = {name: (kind, citation(kind)) for name, kind in MODELS.items()}
    result = {name: {"about": about(kind), **paper._asdict()} for name, (kind, paper) in found.items()}
    rows = [(name, paper.arxiv, paper.title, about(kind)) for name, (kind, paper) in found.items()]
    return Answer(result, [[("model", "arXiv", "paper", "what it is"), *rows]])


def about_model(name: str) -> Answer:
    """Answer with the arguments of a model."""
    from ancestral.cli.settings import arguments_of, model_named
    from ancestral.report.words import documented, shown

    kind = model_named(name)
    parameters = inspect.signature(kind).parameters
    defaults = {key: shown(parameters[key].default) for key in arguments_of(kind)}
    defaults |= {key: "as the data" for key in ("likelihood", "classes") if key in defaults}
    return Answer(
        {"name": name, "arguments": defaults},
        [documented(kind, defaults), "", [("--set", "default"), *defaults.items()]],
    )


@command
def data() -> Answer:
    """List the sources of data."""
    from ancestral.data import SOURCES

    return Answer(dict(SOURCES), [[("source", "what it is"), *SOURCES]])


@command
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="RECIPE", help="Say more about this one.")] = None,
) -> Answer:
    """List the recipes: the papers' models, sizes and data, and the number that was reported of each."""
    from ancestral.recipes import RECIPES

    if name is not None:
        return about_recipe(name)
    found = {name: recipe() for name, recipe in RECIPES.items()}
    counts = {name: recipe.parameters() for name, recipe in found.items()}
    result = {name: {**recipe.to_json(), "parameters": counts[name]} for name, recipe in found.items()}
    rows = [
        (name, recipe.data.name, recipe.model, f"{counts[name]:,}", str(recipe.expected), recipe.expected.source)
        for name, recipe in found.items()
    ]
    text = [("recipe", "data", "model", "parameters", "reported", "by"), *rows]
    return Answer(result, [text, "", "follow one: ancestral train --recipe NAME --data FILE --out RUN"])


def about_recipe(name: str) -> Answer:
    """Answer with everything that a recipe says."""
    from ancestral.cli.recipes import recipe_named, recipe_rows

    recipe = recipe_named(name)
    result = {"name": name, **recipe.to_json(), "parameters": recipe.parameters()}
    source = "" if recipe.data.source else " --data FILE"
    follow = f"follow it: ancestral train --recipe {name}{source} --out RUN"
    return Answer(result, [[("", ""), *recipe_rows(recipe)], "", follow])


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 it failed, 2 wrong usage.

    Args:
        args: words after the program's name; those of this process by default.
    """
    sys.exit(status_of(app, sys.argv[1:] if args is None else args))
