"""`sample` and `complete` of runs of recordings: sound that is written while it is made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ancestral.cli.console import Answer, note
from ancestral.cli.pace import Pace
from ancestral.cli.takes import (
    Take,
    check_sound,
    continuing,
    given_recordings,
    labelled,
    sound_of,
    stream_of,
    write_sounds,
)
from ancestral.report.words import counted
from ancestral.runs import Run, listed

__all__ = ["check_no_sound", "complete_sound", "sample_sound"]

EAGER_BLOCKS = 2  # of a compiled stream: the first runs as it is, the second is compiled


def check_no_sound(run: Run, seconds: float | None, compiled: bool = False) -> None:
    """Raise ValueError where an option that is for recordings is given, to a run that is not of them."""
    given = f"--seconds {seconds:g}" if seconds is not None else "--compile" if compiled else None
    if given:
        raise ValueError(f"{given}: {run.folder} is no run of recordings, but of {run.source}; leave it out")


def sample_sound(
    run: Run,
    out: Path,
    *,
    n: int | None,
    seconds: float | None,
    files: Sequence[Path],
    context: str | None,
    temperature: float,
    seed: int,
    compiled: bool,
) -> Answer:
    """Make sounds of a run of recordings: of classes, of the features of recordings, or of nothing."""
    check_sound(out, seconds, sound_of(run).rate)
    check_inputs_stay(out, files)
    if run.given is not None:
        takes = given_recordings(run, files, n or max(1, len(files)), seconds, seed)
    else:
        takes = [labelled(run, n or 1, seconds, context)]
    how = {"temperature": temperature, "seed": seed}
    return made(run, takes, out, how, compiled)


def complete_sound(
    run: Run,
    out: Path,
    *,
    n: int | None,
    seconds: float | None,
    file: Path | None,
    known: str | None,
    context: str | None,
    proposals: int,
    seed: int,
    compiled: bool,
) -> Answer:
    """Continue a recording."""
    check_sound(out, seconds, sound_of(run).rate)
    wrong = f"--known {known}" if known is not None else f"--proposals {proposals}" if proposals > 1 else None
    if wrong:
        raise ValueError(f"{wrong}: it is for pictures, a recording is known up to its end; leave it out")
    check_inputs_stay(out, [file] if file else [])
    take = continuing(run, file, n or 1, seconds, context, seed)
    return made(run, [take], out, {"seed": seed}, compiled, continued=True)


def check_inputs_stay(out: Path, files: Sequence[Path]) -> None:
    """Raise ValueError where what is written would take the place of what is read."""
    for file in files:
        if file.resolve() == out.resolve():
            raise ValueError(f"--out {out} is the --input: it would be lost; give another file")


def made(
    run: Run, takes: Sequence[Take], out: Path, how: dict[str, Any], compiled: bool, continued: bool = False
) -> Answer:
    """Make sounds, write them, and answer with where they are and how fast they were made."""
    rate, generator = sound_of(run).rate, torch.Generator().manual_seed(how["seed"])
    more = {"temperature": how.get("temperature", 1.0), "compiled": compiled}
    if compiled and len(takes) > 1:
        raise ValueError("--compile: each recording would be compiled for anew; give one --input, or leave it out")
    if compiled:
        note("compiling: about a minute, less if the same was compiled before")
    with Pace(sum(take.steps for take in takes), rate, EAGER_BLOCKS if compiled else 0) as pace:
        paths, whole = write_sounds(run, takes, out, lambda take: pace.over(stream_of(run, take, generator, **more)))
    labels, prompt = names_of(run, takes), len(takes[0].prompt) / rate
    result = {
        "written": [str(path) for path in paths],
        "n": sum(take.n for take in takes) if whole else len(paths),
        "labels": labels,
        **how,
        "rate": rate,
        **({"prompt_seconds": prompt} if continued else {}),
        "seconds": pace.made / rate,
        "in_turn": len(takes),
        "elapsed": pace.elapsed,
        "samples_per_second": pace.values_per_second,
        "real_time_factor": pace.factor,
        "interrupted": not whole,
    }
    line = f"{what_is(result)} in {pace.elapsed:.2g} s ({pace.values_per_second:,.0f} samples/s, {pace.times}): "
    return Answer(
        result, [*([] if whole else [f"interrupted after {pace.done}; what there is was kept"]), line + span(paths)]
    )


def what_is(result: dict[str, Any]) -> str:
    """Return what was made: `3 continuations of 0.50 s, after 0.25 s, class 7,`."""
    noun = "sample" if "prompt_seconds" not in result else "continuation"
    classes = tuple(dict.fromkeys(result["labels"] or ()))
    one_by_one = " in all" if result["in_turn"] > 1 else ""
    words = [f"{counted(result['n'], noun)} of {result['seconds']:.2f} s{one_by_one}"]
    words += [f"after {result['prompt_seconds']:.2f} s"] if noun == "continuation" else []
    words += [f"{'class' if len(classes) == 1 else 'classes'} {listed(classes)}"] if classes else []
    return ", ".join(words) + ("," if len(words) > 1 else "")


def names_of(run: Run, takes: Sequence[Take]) -> list[str] | None:
    """Return the classes of the sounds, None where they have none."""
    classes = run.classes
    if classes is None:
        return None
    return [classes[label] for take in takes if take.context is not None for label in take.context.tolist()]


def span(paths: Sequence[Path]) -> str:
    """Return paths for a message, the first and the last one where they are many."""
    return ", ".join(map(str, paths)) if len(paths) < 4 else f"{paths[0]} ... {paths[-1]}"
