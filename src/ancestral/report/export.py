"""`export`: a run as a small folder to hand on: how to build the model, its weights, its evaluation and its card.

What only training needs is left out. Weights are rounded to bfloat16, which halves them, where that costs nothing that
can be measured; they compute in float32 all the same.
"""

import copy
import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ancestral.checkpoint import CONFIG, STORED, WEIGHTS, write_json, write_tensors
from ancestral.data import BUILT_IN, Audio, Data
from ancestral.data.restore import Pictures, Table
from ancestral.evaluation import evaluate
from ancestral.files import replacing
from ancestral.model import Model
from ancestral.models import MODELS
from ancestral.pretrained import CARD, EVALUATION, HOME, PREFIX
from ancestral.report.words import citation, counted, digits_of, evaluation_rows, plus_minus, shown, size_of, values_of
from ancestral.runs import Run

__all__ = ["Exported", "Said", "export", "result_of"]

NOTHING = 0.1  # of a standard error: what rounding may cost
FROM_DATA = ("shape", "classes", "conditioner")  # arguments of models that no --set says


class Said(NamedTuple):
    """What only a person knows of a run, for its card.

    Attributes:
        about: what the data is and where it comes from.
        licence: of the data.
        limits: of the model.
    """

    about: str
    licence: str
    limits: str


class Exported(NamedTuple):
    """What was written.

    Attributes:
        evaluation: of the weights as they are stored.
        before: of the weights of the run.
        rounded: whether they are stored in bfloat16.
        cost: what that costs, or would have cost, in nats.
        bytes: of the folder.
    """

    evaluation: dict[str, Any]
    before: dict[str, Any]
    rounded: bool
    cost: float
    bytes: int


def export(
    run: Run, out: Path, said: Said, source: str | None = None, on_progress: Callable[[float], None] | None = None
) -> Exported:
    """Write a run as such a folder.

    Args:
        run: any.
        out: a new folder; its name becomes that of the model in its card.
        said: what the card says besides.
        source: where its data is now; by default where it was.
        on_progress: is told the share of the work that is done.

    Raises:
        ValueError: the folder holds a run.
        OSError: the data cannot be read, or something cannot be written.
    """
    if (out / CONFIG).exists():
        raise ValueError(f"--out {out} already holds a model: give another folder")
    data, told = run.data(source), on_progress or (lambda share: None)
    model = rounded(run.model)
    before = evaluate(run.model, data, on_progress=lambda share: told(share / 2))
    after = evaluate(model, data, on_progress=lambda share: told((1 + share) / 2))
    cost = after.nats - before.nats
    costs_nothing = cost <= NOTHING * (before.nats_se or 0.0)
    found = (after if costs_nothing else before).to_json() | {"source": name_of(run.source), "limit": None}
    write_tensors(out / WEIGHTS, in_bfloat16(run.model) if costs_nothing else run.model.state_dict())
    write_json(out / EVALUATION, found)
    size = sum((out / name).stat().st_size for name in (WEIGHTS, EVALUATION))
    exported = Exported(found, before.to_json(), costs_nothing, cost, size)
    with replacing(out / CARD) as part:
        part.write_text(card(run, data, out, said, exported), "utf-8")
    write_json(out / CONFIG, config_of(run, costs_nothing))  # last: without it the folder is no run
    return exported._replace(bytes=sum(path.stat().st_size for path in out.iterdir()))


def rounded(model: Model) -> Model:
    """Return a copy of a model whose weights are rounded to bfloat16, and compute as before."""
    copied = copy.deepcopy(model)
    copied.load_state_dict(in_bfloat16(model))
    return copied


def in_bfloat16(model: Model) -> dict[str, Tensor]:
    """Return the weights of a model, those that are floats rounded to bfloat16."""
    return {name: t.bfloat16() if t.is_floating_point() else t for name, t in model.state_dict().items()}


def name_of(source: str) -> str:
    """Return the name of data, without the folder where it lies on one machine."""
    return source if source in BUILT_IN else Path(source).name


def config_of(run: Run, stored: bool) -> dict[str, Any]:
    """Return what config.json says, without paths of the machine that trained."""
    data = {**run.config["data"], "name": name_of(run.source), "source": name_of(run.source)}
    return {**run.config, "data": data, **({STORED: "bfloat16"} if stored else {})}


def command_of(run: Run) -> str:
    """Return the command that trains such a run anew, as far as the run records it."""
    config, source = run.config, name_of(run.source)
    recipe, how = (config.get("recipe") or {}).get("name"), config.get("training") or {}
    if recipe is not None:
        words = ["ancestral train --recipe", recipe, *([] if source in BUILT_IN else ["--data", source])]
        return " ".join([*words, "--out RUN", f"--seed {how.get('seed', 0)}"])
    words = ["ancestral train", run.name, "--data", shlex.quote(source), "--out RUN"]
    options = config["data"]["options"]
    words += [option_of(key, value) for key, value in options.items() if value is not None and value is not False]
    words += [option_of(key, how[key]) for key in ("epochs", "steps", "minutes") if how.get(key) is not None]
    words += [option_of(key, how[key]) for key in ("batch_size", "lr", "weight_decay") if how.get(key) is not None]
    settings = settings_of(run)
    return " ".join([*words, f"--seed {how.get('seed', 0)}", *(["--set", *settings] if settings else [])])


def option_of(name: str, value: Any) -> str:
    """Return an option as it is typed.

    >>> option_of("batch_size", 16), option_of("linear", True)
    ('--batch-size 16', '--linear')
    """
    flag = f"--{name.replace('_', '-')}"
    return (
        flag if value is True else f"{flag} {shlex.quote(f'{value:g}' if isinstance(value, float) else shown(value))}"
    )


def settings_of(run: Run) -> list[str]:
    """Return the arguments of the model that are not its class's defaults, as they follow --set."""
    has, parameters = run.model.arguments, inspect.signature(MODELS[run.name]).parameters
    own = [name for name in has if name not in FROM_DATA and has[name] != parameters[name].default]
    found = [shlex.quote(f"{name}={shown(has[name])}") for name in own]
    unconditional = run.config["data"].get("classes") and run.classes is None and run.given is None
    return [*found, *(["classes=null"] if unconditional else [])]


def result_of(evaluation: dict[str, Any]) -> str:
    """Return the result in a few words: bits/dim of more than two levels, else nats.

    >>> continuous = {"nats": 9.785, "nats_se": 0.018, "bits_per_dim": None, "baselines": {}}
    >>> result_of({**continuous, "exact": True, "given": None})
    '9.785 ± 0.018 nats'
    """
    uniform = evaluation["baselines"].get("uniform", {}).get("bits_per_dim")
    binary = evaluation["bits_per_dim"] is None or uniform == 1.0
    key, unit = (
        ("nats", "nats")
        if binary
        else ("bits_per_dim", "bits/dim" if evaluation.get("rate") is None else "bits/sample")
    )
    se = evaluation[f"{key}_se"]
    words = f"{plus_minus(evaluation[key], se, digits_of(se))} {unit}"
    given = "" if evaluation["given"] is None else f" given {evaluation['given']}"
    return f"{'' if evaluation['exact'] else 'at most '}{words}{given}"


def card(run: Run, data: Data, out: Path, said: Said, exported: Exported) -> str:
    """Return the card of a model, Markdown."""
    paper, found = citation(type(run.model)), exported.evaluation
    cited = f" (“{paper.title}”, {paper.authors}, arXiv {paper.arxiv})" if paper.arxiv else ""
    head, *rows = evaluation_rows(run.name, found)
    table = [" | ".join(row).replace("x|y", "x\\|y") for row in (head, ["---"] * len(head), *rows)]
    examples = f"{size_of(data.shape)} of {values_of(data.discrete)}"
    named = f"{PREFIX}{out.name}" if out.resolve().parent == HOME else out.name
    count = sum(p.numel() for p in run.model.parameters())
    parts = [
        f"# {out.name}",
        f"`{type(run.model).__name__}`{cited}, {count:,} parameters, for examples {examples}.",
        f"    ancestral sample {named} --out samples{suffix(run)}",
        f"## Data\n\n{said.about}",
        f"Licence of the data: {said.licence}",
        f"## Recipe\n\n    {command_of(run)}",
        trained_line(run),
        f"## Result\n\n{tested_line(found)}",
        "\n".join(f"| {line} |" for line in table),
        stored_line(exported),
        f"## Limits\n\n{said.limits}",
    ]
    return "\n\n".join(parts) + "\n"


def suffix(run: Run) -> str:
    """Return the suffix of the files that samples of a run make."""
    kinds = {Pictures: ".png", Audio: ".wav", Table: ".csv"}
    return kinds.get(type(run.restore), ".npz")


def trained_line(run: Run) -> str:
    """Return what training came to, in words."""
    result, versions = run.config.get("result") or {}, run.config.get("versions") or {}
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    if not result:
        return f"Made by {made}."
    chosen = f"the weights of step {result['best_step']:,}, by the validation part"
    return f"{counted(result['steps'], 'step')} in {result['seconds'] / 60:.1f} minutes; {chosen}. Made by {made}."


def tested_line(found: dict[str, Any]) -> str:
    """Return of what the result is, in words."""
    kind = "the exact log-likelihood" if found["exact"] else "an upper bound on -log p(x)"
    of = f"all {found['count']:,} {found['noun']} of the test part of {found['source']}"
    return f"`{EVALUATION}`, which `ancestral evaluate` gives again: {kind} of {of}, lower is better."


def stored_line(exported: Exported) -> str:
    """Return in which numbers the weights are stored and what that costs, in words."""
    cost, se = f"{exported.cost:+.5f} nats", exported.before["nats_se"]
    before = f"{plus_minus(exported.before['nats'], se, 5)} nats in float32"
    if exported.rounded:
        less = "" if se is None else f", less than {NOTHING:g} standard errors"
        return f"Weights are stored in bfloat16 and compute in float32. That costs {cost} (from {before}){less}."
    return f"Weights are stored in float32: rounding them to bfloat16 would cost {cost} (from {before})."
