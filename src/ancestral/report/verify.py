"""What `ancestral verify` shows: the contract on small copies of a model, and the trained model itself.

A copy with random weights in double precision proves that nothing leaks, whatever the weights are; the trained model
shows what they make of it: which pixels a pixel really sees, that each factor sums to one, that the walk agrees.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ancestral.checkpoint import write_json
from ancestral.data import Recordings
from ancestral.files import replacing
from ancestral.model import Model
from ancestral.models.latent import LatentVariables
from ancestral.report.bounds import Checked, checked
from ancestral.report.field import Field, Walked, dependence, field_of, rectangle, walked
from ancestral.report.figures import field_picture, matrix_picture, past_picture, png_of
from ancestral.report.words import milliseconds
from ancestral.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Finding", "Verdict", "verified", "write_verdict"]

EXAMPLES = 4
WIDEST = 64  # columns of a table whose dependence is drawn
STRETCHES = 2  # of recordings
LONGEST = 12_000  # steps of a sequence: a walk takes about a millisecond for each
BESIDE = 64  # steps of a sequence that are looked at beyond the reach of one, and after it


class Finding(NamedTuple):
    """One thing that was checked.

    Attributes:
        name: what.
        status: "passed", "failed" or "not applicable".
        detail: numbers, or the reason.
    """

    name: str
    status: str
    detail: str


class Verdict(NamedTuple):
    """What was found.

    Attributes:
        contract: of small copies of the model, `testing.check_model`.
        trained: of the trained model.
        examples: in words, on what.
        numbers: of the trained model, JSON.
        picture: content of a PNG file, None for what cannot be drawn.
    """

    contract: list[Finding]
    trained: list[Finding]
    examples: str
    numbers: dict[str, Any]
    picture: bytes | None

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(finding.status != "failed" for finding in [*self.contract, *self.trained])

    def to_json(self) -> dict[str, Any]:
        """Return everything but the picture as JSON."""
        findings = {kind: [f._asdict() for f in getattr(self, kind)] for kind in ("contract", "trained")}
        return {"passed": self.passed, **findings, "examples": self.examples, **self.numbers}


def verified(run: Run) -> Verdict:
    """Check the contract of the run's model, and the trained model on a few examples of its test data."""
    from ancestral.testing import outcomes

    with quiet():
        contract = [Finding(check.name, check.status, check.detail) for check in outcomes(run.model)]
    x, context, examples = examples_of(run)
    if isinstance(run.model, LatentVariables):
        found = checked(run.model, x, context)
        return Verdict(contract, latent_findings(found), examples, {"latents": found.to_json()}, None)
    walk = walked(run.model, x, context)
    field, numbers, fig = field_findings(run, x, context, walk)
    numbers |= {"log_sum": walk.log_sum, "walk_difference": walk.difference, "factors": walk.factors}
    trained = [sums(walk), agrees(walk, run.model.reach), *field]
    return Verdict(contract, trained, examples, numbers, None if fig is None else png_of(fig))


def write_verdict(verdict: Verdict, folder: Path) -> None:
    """Write verify.json and, where there is a picture, verify.png.

    Raises:
        OSError: one of them cannot be written.
    """
    write_json(folder / "verify.json", verdict.to_json())
    if verdict.picture is not None:
        with replacing(folder / "verify.png") as part:
            part.write_bytes(verdict.picture)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the library says of the small copies from the user."""
    log = logging.getLogger("ancestral")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def examples_of(run: Run) -> tuple[Tensor, Tensor | None, str]:
    """Return some data, its context and what it is, in words: test data, or draws where the data cannot be read."""
    device = run.model.device
    try:
        data = run.data()
        split = next(name for name in ("test", "valid", "train") if len(data.split(name)))
    except (OSError, ValueError, StopIteration):
        context = run.some_context(EXAMPLES)
        drawn = run.model.sample(EXAMPLES, context, generator=torch.Generator().manual_seed(0))
        return drawn, context, f"{EXAMPLES} samples of the model (its data cannot be read)"
    part = data.split(split)
    if isinstance(part, Recordings):
        x, context = stretches(part, min(run.model.reach + 1 + 2 * BESIDE, LONGEST))
        words = f"{len(x)} x {x.shape[2]:,} samples of the {split} part of {data.name}"
    else:
        x, context = data.batch(split, data.limited(split, EXAMPLES))
        x = x[..., :LONGEST] if x.dim() == 3 else x
        words = f"{len(x)} examples of the {split} part of {data.name}"
    context = run.told(context)
    return x.to(device), None if context is None else context.to(device), words


def stretches(part: Recordings, steps: int) -> tuple[Tensor, Tensor | None]:
    """Return the beginnings (B, C, T) of the longest recordings and their context; T is `steps`, or all that there are.

    Where a recording is shorter, those that lie after it follow: it is real sound, and long enough to show the reach.
    """
    starts, steps = part.lengths.cumsum(0) - part.lengths, min(steps, part.x.shape[1])
    frames, hop = (-(-part.lengths // part.hop)).cumsum(0), part.hop
    chosen = part.lengths.argsort(descending=True, stable=True)[:STRETCHES].tolist()
    x = torch.stack([part.x[:, (a := min(int(starts[r]), part.x.shape[1] - steps)) : a + steps] for r in chosen])
    if part.features is None:
        return x, None if part.of is None else part.of[chosen]
    needed, there = -(-steps // hop), part.features.shape[1]
    begins = [min(int(frames[r]) - -(-int(part.lengths[r]) // hop), there - needed) for r in chosen]
    return x, torch.stack([part.features[:, a : a + needed] for a in begins])


def sums(walk: Walked | Checked) -> Finding:
    """Say whether every factor sums to one."""
    name = "sums to one"
    if walk.log_sum is None:
        return Finding(name, "not applicable", "the values are continuous: a factor is a density, not a table")
    status = "passed" if walk.log_sum < 1e-4 else "failed"
    some = "" if walk.summed == walk.factors else f"{walk.summed} of "
    return Finding(name, status, f"{some}{walk.factors} factors, largest |log of the sum| {walk.log_sum:.1e}")


def latent_findings(found: Checked) -> list[Finding]:
    """Say what the latents of a model showed."""
    names = ["ELBO", *(f"L_{draws}" for draws in list(found.bounds)[1:])]
    values = " <= ".join(f"{name} {nats:.2f}" for name, nats in zip(names, found.bounds.values(), strict=True))
    error = max(error for _, error in found.gains)
    gap, gap_error = found.gap
    levels = ", ".join(f"{level}" for level in found.closed)
    close = found.difference <= 1e-3 + 1e-4 * found.scale
    closed = Finding("closed form", "not applicable", "no divergence of this posterior has one: all are drawn")
    if found.closed:
        status, words = "passed" if found.agrees else "failed", f"KL of level {levels}"
        closed = Finding("closed form", status, f"{words} less that of draws: {gap:+.3f} ± {gap_error:.3f} nats")
    unseen = "the latents tie all values together: no value of x has a conditional of its own"
    return [
        sums(found),
        Finding(
            "bounds in order", "passed" if found.in_order else "failed", f"{values} nats, ± {error:.2f} by the draws"
        ),
        closed,
        Finding("walk = parallel pass", "passed" if close else "failed", weights_words(found)),
        Finding("receptive field", "not applicable", unseen),
    ]


def weights_words(found: Checked) -> str:
    """Return by how much the walk and the parallel pass differ, in words."""
    return f"largest difference of log p(x, z) - log q(z|x) {found.difference:.1e} nats"


def agrees(walk: Walked, reach: int = 0) -> Finding:
    """Say whether the walk agrees with the parallel pass; of sequences, over how many receptive fields."""
    status = "passed" if walk.difference <= 1e-3 + 1e-4 * walk.scale else "failed"
    steps = walk.place.shape[-1]
    over = f", over {steps:,} steps, {steps / (reach + 1):.2g} receptive fields" if reach else ""
    return Finding("walk = parallel pass", status, f"largest difference of a factor {walk.difference:.1e} nats{over}")


def field_findings(
    run: Run, x: Tensor, context: Tensor | None, walk: Walked
) -> "tuple[list[Finding], dict[str, Any], Figure | None]":
    """Return findings, numbers and a picture of what a pixel sees, or which column depends on which."""
    shape = tuple(x.shape[1:])
    if len(shape) == 3:
        at = most_blind(run.model, shape, walk.place)
        return pixel_findings(field_of(run.model, x, context, at, walk.place))
    if len(shape) == 2 and run.model.reach:
        late = shape[1] - 1 - min(BESIDE, shape[1] // 8)
        field = field_of(run.model, x, context, (shape[0] - 1, late), walk.place)
        return step_findings(field, run.model.reach, None if run.audio is None else run.audio.rate)
    if len(shape) == 1 and shape[0] <= WIDEST:
        names = getattr(run.restore, "columns", None) or [f"{i}" for i in range(shape[0])]
        return column_findings(dependence(run.model, x, context), walk.place, names)
    detail = f"{' x '.join(map(str, shape))} variables are too many to draw"
    return [Finding("receptive field", "not applicable", detail)], {}, None


def most_blind(model: Model, shape: tuple[int, ...], place: Tensor) -> tuple[int, int, int]:
    """Return the pixel near the middle rows that by declaration misses most of what lies within its reach.

    Four rows and eight columns are looked at, of all residues there may be: strided branches see less at some of them.
    """
    channel, (height, width) = shape[0] - 1, shape[1:]
    rows = {min(max(0, height // 2 + offset), height - 1) for offset in range(-2, 2)}
    cols = {width // 2, *range(0, width, max(1, (width + 6) // 7)), width - 1}

    def misses(at: tuple[int, int, int]) -> tuple[int, int]:
        before, declared = place < place[at], model.receptive_field(at)
        aside = abs(at[1] - height // 2) + abs(at[2] - width // 2)
        return int((before & ~declared & rectangle(declared & before)).any(0).sum()), -aside

    return max(((channel, row, col) for row in sorted(rows) for col in sorted(cols)), key=misses)


def pixel_findings(field: Field) -> "tuple[list[Finding], dict[str, Any], Figure]":
    """Say what one pixel of a picture sees."""
    row, col = field.at[1:]
    kinds = kinds_of(field)
    seen, blind, beyond, leaks = (int((kinds == kind).sum()) for kind in (1, 2, 3, 5))
    undeclared = int((field.seen & ~field.declared).sum())
    unseen = int((field.declared & ~field.seen).sum())
    size = f"({kinds.shape[0]}, {kinds.shape[1]})"
    words = f"pixel ({row}, {col}) of {size} sees {seen} of {seen + blind + beyond} earlier pixels"
    words += f", {beyond} are beyond its reach" if beyond else ""
    exact = "as the model declares"
    if undeclared or unseen:
        exact = f"{undeclared} more than the model declares, {unseen} that it declares had no influence here"
    findings = [
        Finding("no leak", "failed" if leaks else "passed", f"{leaks or 'no'} later pixels are seen"),
        Finding("receptive field", "failed" if undeclared else "passed", f"{words}; {exact}"),
        Finding("blind spot", "passed", f"{blind} earlier pixels within reach are not seen" if blind else "none"),
    ]
    numbers = {"pixel": [row, col], "seen": seen, "blind_spot": blind, "beyond_reach": beyond, "leaks": leaks}
    fig = field_picture(kinds, field.strength.amax(0), (row, col))
    return findings, {"receptive_field": numbers}, fig


def step_findings(field: Field, reach: int, rate: int | None) -> "tuple[list[Finding], dict[str, Any], Figure]":
    """Say which of the steps before it one step of a sequence sees.

    Args:
        field: of a value at (c, t).
        reach: how many steps before it the model declares to be seen.
        rate: steps a second, of recordings.
    """
    t, noun = field.at[1], "step" if rate is None else "sample"
    seen, before = (field.seen & field.before)[:, :t].any(0), min(reach, t)
    within, leaks = int(seen[t - before :].sum()), int(field.leaks.sum())
    first = int(seen.nonzero()[0]) if bool(seen.any()) else t
    undeclared = int((field.seen & field.before & ~field.declared).sum())
    words = f"the earliest {noun} seen is {t - first:,} before" + (
        "" if rate is None else milliseconds(t - first, rate)
    )
    exact = f"{undeclared} more than the model declares" if undeclared else f"declared are {reach:,}"
    short = "" if before == reach else f", of which {before:,} are there"
    blind = "none: every step within reach has an influence"
    if within < before:
        blind = f"{within / max(before, 1):.1%} of the {before:,} steps within reach have an influence here"
    findings = [
        Finding("no leak", "failed" if leaks else "passed", f"{leaks or 'no'} later {noun}s are seen"),
        Finding("receptive field", "failed" if undeclared else "passed", f"{words}; {exact}{short}"),
        Finding("blind spot", "passed", blind),
    ]
    numbers: dict[str, Any] = {"step": t, "reach": reach, "measured_reach": t - first, "within_reach": before}
    numbers |= {"seen": within, "leaks": leaks, "undeclared": undeclared}
    numbers |= {} if rate is None else {"reach_ms": 1000 * reach / rate}
    fig = past_picture(field.strength.amax(0)[: t + 1].flip(0)[1:], before, rate)
    return findings, {"receptive_field": numbers}, fig


def kinds_of(field: Field) -> Tensor:
    """Return for each pixel (H, W) what it is to the pixel of the field: an index into `figures.KINDS`."""
    kinds = torch.full(field.seen.shape[1:], 4)
    kinds[field.before.any(0)] = 3
    kinds[(field.seen & field.before).any(0)] = 1
    kinds[field.blind.any(0)] = 2
    kinds[field.leaks.any(0)] = 5
    kinds[field.at[1:]] = 0
    return kinds


def column_findings(strength: Tensor, place: Tensor, names: Any) -> "tuple[list[Finding], dict[str, Any], Figure]":
    """Say which columns of a table depend on which."""
    order = place.argsort()
    ordered = strength[order][:, order]
    leaks, seen = int((ordered.triu(1) > 0).sum()), int((ordered.tril(-1) > 0).sum())
    possible = len(order) * (len(order) - 1) // 2
    findings = [
        Finding("no leak", "failed" if leaks else "passed", f"{leaks or 'no'} columns depend on a later one"),
        Finding("dependence", "passed", f"{seen} of {possible} pairs of columns: the later depends on the earlier"),
    ]
    numbers = {"dependence": {"order": order.tolist(), "pairs": possible, "seen": seen, "leaks": leaks}}
    return findings, numbers, matrix_picture(ordered, [names[i] for i in order.tolist()])
