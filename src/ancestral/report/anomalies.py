"""What `ancestral score` reads, computes and writes: scores of examples by a run, a table and maps of them."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ancestral.anomaly import CODECS, SCORES, Evidence, Score, auroc, gathered, likelihood, share_of, surprise
from ancestral.data import Data, Recordings, Split
from ancestral.data.restore import Pictures
from ancestral.files import replacing
from ancestral.model import Model
from ancestral.report.pictures import save_png, tiles
from ancestral.runs import Run

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "Group",
    "Judge",
    "areas",
    "check_maps",
    "figures",
    "judge_of",
    "judged",
    "strangest",
    "write_maps",
    "write_scores",
]

Array = NDArray[Any]

TYPICAL = 1000  # examples of the run's own data that typicality is relative to, at most
SHOWN = 8  # examples of maps


class Judge(NamedTuple):
    """What scores.

    Attributes:
        run: of the model.
        background: the other model of a likelihood ratio, or None.
        scores: by name.
        typical: the mean bits of a value of the run's own data, or None where no score wants it.
        samples: of the bounds of models with latents.
    """

    run: Run
    background: Model | None
    scores: Mapping[str, Score]
    typical: float | None
    samples: int

    @property
    def by(self) -> str:
        """The score that examples are ranked by: the first that is more than the likelihood, if there is one."""
        return next((name for name, score in self.scores.items() if score is not likelihood), next(iter(self.scores)))

    @property
    def exact(self) -> bool:
        """Whether all bits are exact, not bounds."""
        dequantized = self.run.config["data"].get("dequantized") is not None
        return self.run.model.exact and not dequantized and (self.background is None or self.background.exact)

    def evidence(self, data: Data, split: str, limit: int | None, told: Callable[[float], None]) -> Evidence:
        """Return what is known of the examples of a split."""
        how: dict[str, Any] = {"samples": self.samples, "limit": limit, "on_progress": told}
        codecs = CODECS if "complexity" in self.scores else ()
        of = self.background if "ratio" in self.scores else None
        return gathered(self.run.model, data, split, background=of, codecs=codecs, typical=self.typical, **how)


class Group(NamedTuple):
    """The examples of one source and their scores.

    Attributes:
        source: as the user typed it; several files are one.
        anomalous: whether they are given as anomalies.
        names: of the examples: their files, or their numbers in the split.
        bits: -log2 p of each.
        scores: of each, by the name of the score.
        data: that they are of, its part, and where they are in it: (N,), or (W,) windows of recordings.
    """

    source: str
    anomalous: bool
    names: list[str]
    bits: Tensor
    scores: dict[str, Tensor]
    data: tuple[Data, str, Tensor]

    def example(self, i: int) -> tuple[Tensor, Tensor | None]:
        """Return one example (1, *shape) of what are no recordings, and what the model is given of it."""
        data, split, index = self.data
        return data.batch(split, index[[i]])


def judge_of(run: Run, background: Run | None, methods: Sequence[str] | None, samples: int) -> Judge:
    """Return what scores by a run.

    Args:
        run: of the model.
        background: of the other model of a likelihood ratio.
        methods: names of scores; by default the likelihood, `complexity` of levels, `ratio` where it can be.
        samples: of bounds.

    Raises:
        ValueError: an unknown score, or one that cannot be had of these runs; a background of other data.
    """
    discrete = run.config["data"]["levels"] or run.config["data"].get("dequantized")
    able = {"likelihood": True, "ratio": background is not None, "complexity": discrete is not None}
    chosen = list(dict.fromkeys(methods or [name for name, can in able.items() if can]))
    for name in chosen:
        if name not in SCORES:
            raise ValueError(f"--method {name}: there are {', '.join(SCORES)}")
    if "ratio" in chosen and background is None:
        raise ValueError("--method ratio needs --background RUN: a model trained on the same data with --mutate 0.2")
    if "complexity" in chosen and discrete is None:
        raise ValueError(f"--method complexity: codecs take levels, {run.source} is continuous; leave it out")
    if samples > 1 and run.model.exact:
        raise ValueError(f"--samples {samples} is for models with latents; {run.name} is exact, leave it out")
    if run.given is None:
        _ = run.classes  # a context that no command line can name is an error
    if background is not None:
        check_background(run, background)
    scores = {name: SCORES[name] for name in chosen}
    judge = Judge(run, None if background is None else background.model, scores, None, samples)
    return judge._replace(typical=typical_of(judge)) if "typicality" in chosen else judge


def check_background(run: Run, background: Run) -> None:
    """Raise ValueError unless a background model is of examples like those of a run."""
    for what in ("shape", "levels", "dequantized"):
        ours, theirs = (each.config["data"].get(what) for each in (run, background))
        if ours != theirs:
            raise ValueError(
                f"--background {background.folder} is of data with {what} {theirs}, {run.folder} of {ours}"
            )
    if run.config["data"]["options"].get("given") != background.config["data"]["options"].get("given"):
        raise ValueError(f"--background {background.folder} is given something else than {run.folder}")


def typical_of(judge: Judge) -> float:
    """Return the mean bits of a value of the run's own data: of its valid part, or where that is empty of train."""
    data = unlabelled(judge.run.data())
    split = "valid" if len(data.split("valid")) else "train"
    alone = judge._replace(scores={})
    seen = alone.evidence(data, split, TYPICAL, lambda share: None)
    return float(seen.bits.sum() / seen.values.sum())


def unlabelled(data: Data) -> Data:
    """Return data without labels, which may name classes that a model does not know, and without mutation."""

    def without(part: Split | Recordings) -> Split | Recordings:
        return replace(part, of=None) if isinstance(part, Recordings) else replace(part, labels=None)

    return replace(data, classes=None, mutate=0.0, splits={name: without(part) for name, part in data.splits.items()})


def judged(
    judge: Judge,
    sources: Sequence[tuple[str, bool]],
    split: str,
    limit: int | None,
    told: Callable[[float], None],
) -> list[Group]:
    """Return the scores of all sources, files of one kind together.

    Args:
        judge: what scores.
        sources: each as the user typed it, and whether it holds anomalies.
        split: which part of a source that has some.
        limit: of examples of each source.
        told: the share that is done.

    Raises:
        ValueError: a source that does not fit the run; OSError: it cannot be read.
    """
    read = [(judge.run.data(source, labelled=False), anomalous) for source, anomalous in sources]
    parts = [(unlabelled(data), anomalous) for data, anomalous in together(read, split)]
    groups: list[Group] = []
    for i, (data, anomalous) in enumerate(parts):
        seen = judge.evidence(data, split, limit, share_of(told, i, len(parts)))
        groups.append(group_of(judge, data, split, limit, seen, anomalous))
    return groups


def together(read: Sequence[tuple[Data, bool]], split: str) -> list[tuple[Data, bool]]:
    """Return data in which single pictures that follow each other are one."""
    out = []
    for (single, anomalous), some in groupby(read, lambda each: (is_single(each[0], split), each[1])):
        group = [data for data, _ in some]
        out += [(joined(group, split), anomalous)] if single else [(data, anomalous) for data in group]
    return out


def is_single(data: Data, split: str) -> bool:
    """Return whether data is one picture from a file."""
    part = data.split(split)
    return isinstance(part, Split) and part.files == (data.name,)


def joined(group: Sequence[Data], split: str) -> Data:
    """Return the data of single pictures as one."""
    parts = [part for data in group if isinstance(part := data.split(split), Split)]
    files = tuple(file for part in parts for file in part.files or ())
    both = Split(torch.cat([part.x for part in parts]), None, files)
    name = group[0].name if len(group) == 1 else f"{len(group):,} files"
    return replace(group[0], name=name, splits={**group[0].splits, split: both})


def group_of(judge: Judge, data: Data, split: str, limit: int | None, seen: Evidence, anomalous: bool) -> Group:
    """Return the scores of data with the names of its examples."""
    part, index = data.split(split), data.limited(split, limit)
    which = part.recording[index].unique() if isinstance(part, Recordings) else index
    names = [part.files[i] if part.files else str(i) for i in which.tolist()]
    scores = {name: score(seen) for name, score in judge.scores.items()}
    return Group(data.name, anomalous, names, seen.bits, scores, (data, split, index))


def figures(judge: Judge, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return of each source how many examples it has and the mean of every score."""
    return [
        {"source": group.source, "anomalous": group.anomalous, "examples": len(group.names)}
        | {"means": {name: group.scores[name].mean().item() for name in judge.scores}}
        for group in groups
    ]


def areas(judge: Judge, groups: Sequence[Group]) -> dict[str, dict[str, float | None]]:
    """Return the AUROC of every score and its standard error, anomalies positive; nothing where none are given."""
    if not any(group.anomalous for group in groups):
        return {}
    found = {}
    for name in judge.scores:
        normal, anomalous = (torch.cat([g.scores[name] for g in groups if g.anomalous is a]) for a in (False, True))
        found[name] = auroc(normal, anomalous)._asdict()
    return found


def strangest(judge: Judge, groups: Sequence[Group], n: int) -> list[tuple[str, str, float]]:
    """Return the sources and names of the strangest examples, and their scores, by `Judge.by`."""
    return [(group.source, group.names[i], value) for group, i, value in ranked(judge, groups)[:n]]


def ranked(judge: Judge, groups: Sequence[Group]) -> list[tuple[Group, int, float]]:
    """Return all examples, the strangest first."""
    found = [(group, i, value) for group in groups for i, value in enumerate(group.scores[judge.by].tolist())]
    return sorted(found, key=lambda each: -each[2])


def write_scores(judge: Judge, groups: Sequence[Group], out: Path) -> None:
    """Write a line for each example, whole or not at all."""
    with replacing(out) as part, open(part, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        bits = "bits" if judge.exact else "bits_at_most"
        table.writerow(["source", "set", "example", bits, *judge.scores])
        for group in groups:
            columns = [group.bits.tolist(), *(group.scores[name].tolist() for name in judge.scores)]
            for name, *values in zip(group.names, *columns, strict=True):
                kind = "anomaly" if group.anomalous else "input"
                table.writerow([group.source, kind, name, *(f"{value:.6g}" for value in values)])


def check_maps(run: Run, out: Path) -> None:
    """Raise ValueError unless maps of a run can be written to a file."""
    if out.suffix.lower() != ".png":
        raise ValueError(f"--maps {out}: maps are written as .png")
    restore = run.restore
    if not isinstance(restore, Pictures) or restore.dequantized or not run.model.exact:
        what = "has latents, which tie all pixels together" if not run.model.exact else "is not of levels of pictures"
        raise ValueError(f"--maps {out}: {run.folder} {what}; leave it out")


def write_maps(judge: Judge, groups: Sequence[Group], out: Path) -> str:
    """Write the strangest pictures, below each its surprise, and below that the ratio; return what is shown."""
    chosen = ranked(judge, groups)[:SHOWN]
    examples = [group.example(i) for group, i, _ in chosen]
    x, given = torch.cat([x for x, _ in examples]), [context for _, context in examples if context is not None]
    there = x.to(judge.run.model.device)
    context = torch.cat(given).to(there.device) if given else None
    ours = surprise(judge.run.model, there, context).sum(1).cpu().numpy()
    top = max(float(np.quantile(ours, 0.995)), 1e-9)  # one pixel that nobody could foresee would leave the others dark
    rows, words = (
        [judge.run.pictures(x), coloured(ours / top, "viridis")],
        f"-log2 p of each pixel, 0 to {top:.3g} bits",
    )
    if judge.background is not None:
        ratios = ours - surprise(judge.background, there, context).sum(1).cpu().numpy()
        most = max(float(np.quantile(np.abs(ratios), 0.995)), 1e-9)
        rows.append(coloured((ratios / most + 1) / 2, "coolwarm"))
        words += f"; its difference to the background, -{most:.3g} (blue) to {most:.3g} (red)"
    save_png(tiles(rows), out)
    return f"the strangest by {judge.by}; {words}"


def coloured(maps: Array, colours: str) -> "list[Image.Image]":
    """Return maps (N, H, W) of values from 0 to 1 as pictures."""
    import matplotlib
    from PIL import Image

    shades = matplotlib.colormaps[colours](maps.clip(0, 1), bytes=True)[..., :3]
    return [Image.fromarray(np.ascontiguousarray(each)) for each in shades]
