"""Sound of a run: what it is made of (a class, features, a prompt), and the files that it is written to as it is made.

Sounds that are made together are one batch, a `Take`; recordings of different lengths give several takes.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ancestral.data import Audio, AudioWriter, Data, Mel, Recordings, read_recording
from ancestral.data.growing import MOST_BYTES
from ancestral.data.restore import Arrays
from ancestral.files import numbered, replacing
from ancestral.models import WaveNet
from ancestral.runs import Run, listed

__all__ = [
    "Take",
    "check_sound",
    "continuing",
    "given_recordings",
    "labelled",
    "sound_of",
    "stream_of",
    "write_sounds",
]

SECONDS = 2.0  # of sound, by default
STREAMED = ".wav"
WHOLE = (".flac", ".npz", ".npy")  # written when all is made
PAUSE = 0.25  # seconds between two writings to a file

Array = NDArray[Any]


class Take(NamedTuple):
    """Sounds that are made together.

    Attributes:
        n: how many.
        steps: samples that are made of each.
        context: labels (n,), or features (n, F, M) of the prompt and of what is made; None for none.
        prompt: the int16 samples (P,) that each goes on from; none of them by default.
    """

    n: int
    steps: int
    context: Tensor | None = None
    prompt: Array = np.zeros(0, np.int16)


class Recorded(NamedTuple):
    """A recording of the data.

    Attributes:
        levels: (C, T).
        features: (F, ceil(T / hop)), or None.
        label: of the run's classes, or None.
    """

    levels: Tensor
    features: Tensor | None
    label: int | None


def sound_of(run: Run) -> Audio:
    """Return what turns levels of a run of recordings into sound.

    Raises:
        ValueError: its model makes none that could be written while it grows.
    """
    if run.audio is None or not isinstance(run.model, WaveNet):
        raise ValueError(f"{run.folder}: {run.name} cannot make sound step by step; wavenet would do")
    return run.audio


def check_sound(path: Path, seconds: float | None, rate: int) -> None:
    """Raise ValueError unless so many seconds of sound can be written to that path: said before they are made."""
    if path.suffix.lower() not in (STREAMED, *WHOLE):
        raise ValueError(f"--out {path}: sound of this run can be written as {', '.join((STREAMED, *WHOLE))}")
    if seconds is None:
        return
    if not math.isfinite(seconds) or steps_of(seconds, rate) < 1:
        raise ValueError(f"--seconds {seconds:g}: give more than 0, a sample lasts 1/{rate} s")
    if 2 * steps_of(seconds, rate) > MOST_BYTES:
        raise ValueError(f"--seconds {seconds:g}: a .wav holds {MOST_BYTES // 2 // rate} s at {rate} Hz at most")


def steps_of(seconds: float | None, rate: int) -> int:
    """Return how many samples so many seconds are, of `SECONDS` by default."""
    return round((SECONDS if seconds is None else seconds) * rate)


def labelled(run: Run, n: int, seconds: float | None, context: str | None) -> Take:
    """Return n sounds of the class that is named, or of all classes in turn where there are any."""
    steps = steps_of(seconds, sound_of(run).rate)
    if context is not None:
        return Take(n, steps, torch.full((n,), run.label(context)))
    return Take(n, steps, None if run.classes is None else torch.arange(n) % len(run.classes))


def given_recordings(run: Run, files: Sequence[Path], n: int, seconds: float | None, seed: int) -> list[Take]:
    """Return n sounds of the features of recordings in turn, each as long as its own: of files, or the test part.

    Args:
        run: whose model is given features.
        files: any recordings; as many of the test part as there are sounds, by default.
        n: at least one for each file.
        seconds: makes the sounds at most as long.
        seed: of the choice of the test part.

    Raises:
        ValueError: more files than sounds, or one that is shorter than `seconds`.
        OSError: a file cannot be read.
    """
    if n < len(files):
        raise ValueError(f"-n {n}: there are {len(files)} recordings, give at least as many")
    audio, mel = sound_of(run), run.given
    assert isinstance(mel, Mel)
    if files:
        sources = [read(path, audio.rate) for path in files]
        found = [(str(path), len(x), mel(x, audio.rate)) for path, x in zip(files, sources, strict=True)]
    else:
        recorded = of_test(run.data(), n, seed)
        found = [("the test recording", x.levels.shape[1], present(x.features)) for x in recorded]
    takes = []
    for i, (name, length, features) in enumerate(found):
        steps = length if seconds is None else steps_of(seconds, audio.rate)
        if steps > length:
            raise ValueError(f"--seconds {seconds:g}: {name} lasts {length / audio.rate:.2f} s; leave it out")
        count, frames = len(range(i, n, len(found))), -(-steps // mel.factor)
        takes.append(Take(count, steps, features[:, :frames].expand(count, -1, -1)))
    return takes


def continuing(run: Run, file: Path | None, n: int, seconds: float | None, context: str | None, seed: int) -> Take:
    """Return n continuations of a recording, or of the first half of one of the test part.

    Raises:
        ValueError: the model is conditional, and the class of the file is not said.
        OSError: the file cannot be read.
    """
    audio = sound_of(run)
    if run.given is not None:
        other = "ancestral sample RUN --input would do"
        raise ValueError(f"the model of {run.folder} is given {run.given.words}, of what is to come too: {other}")
    steps, label = steps_of(seconds, audio.rate), None if context is None else run.label(context)
    if file is not None:
        if label is None and run.classes is not None:
            raise ValueError(f"--input {file}: name its class with --context: {listed(run.classes)}")
        prompt = read(file, audio.rate)
    else:
        (recorded,) = of_test(run.data(), 1, seed, label)
        prompt = audio(recorded.levels[None, :, : recorded.levels.shape[1] // 2])[0, 0]
        label = recorded.label if run.classes is not None and label is None else label
    return Take(n, steps, None if label is None else torch.full((n,), label), prompt)


def read(path: Path, rate: int) -> Array:
    """Return the samples of a recording at a rate; raise OSError where it cannot be read."""
    if not path.is_file():
        raise FileNotFoundError(f"no such recording: {path}")
    return read_recording(path, rate).x


def of_test(data: Data, n: int, seed: int, label: int | None = None) -> list[Recorded]:
    """Return up to n recordings of the test part, of one class if it is said; raise ValueError where there are none."""
    part = data.split("test")
    assert isinstance(part, Recordings)
    among = torch.arange(len(part.lengths)) if label is None or part.of is None else (part.of == label).nonzero()[:, 0]
    if not len(among):
        of = "" if label is None or data.classes is None else f" of the class {data.classes[label]!r}"
        raise ValueError(f"{data.name} has no test recordings{of}: give one with --input")
    chosen = among[torch.from_numpy(np.random.default_rng(seed).permutation(len(among))[:n])]
    return [recording(part, int(i)) for i in chosen]


def recording(part: Recordings, i: int) -> Recorded:
    """Return the recording i of a part."""
    frames = -(-part.lengths // part.hop)
    first, frame, last = int(part.lengths[:i].sum()), int(frames[:i].sum()), int(frames[: i + 1].sum())
    features = None if part.features is None else part.features[:, frame:last]
    label = None if part.of is None else int(part.of[i])
    return Recorded(part.x[:, first : first + int(part.lengths[i])], features, label)


def present(features: Tensor | None) -> Tensor:
    """Return the features of a recording that has some."""
    assert features is not None
    return features


def stream_of(
    run: Run, take: Take, generator: torch.Generator, temperature: float = 1.0, compiled: bool = False
) -> Iterator[Tensor]:
    """Yield levels (n, C, K) as they are made, on the CPU."""
    assert isinstance(run.model, WaveNet)
    past = torch.from_numpy(sound_of(run).encode(take.prompt))[None]
    how: dict[str, Any] = {"temperature": temperature, "generator": generator, "compiled": compiled}
    for block in run.model.stream(take.n, take.context, steps=take.steps, past=past, **how):
        yield block.cpu()


def write_sounds(
    run: Run, takes: Sequence[Take], out: Path, blocks: Callable[[Take], Iterator[Tensor]]
) -> tuple[list[Path], bool]:
    """Make sounds and write them, after their prompts; a .wav grows meanwhile.

    Args:
        run: whose.
        takes: what is made.
        out: of one sound; several get files NAME-1.wav and so on, or are rows of one array.
        blocks: makes a take.

    Returns:
        The paths, and whether all was made: Ctrl-C ends a .wav where it is, and leaves nothing of other files.

    Raises:
        OSError: a file cannot be written.
    """
    n, out_of = sum(take.n for take in takes), iter(numbered(out, sum(take.n for take in takes)))
    if out.suffix.lower() != STREAMED:
        save_whole(run, takes, out, blocks)
        return [out] if out.suffix.lower() in (".npz", ".npy") else numbered(out, n), True
    done: list[Path] = []
    for take in takes:
        done += (paths := list(itertools.islice(out_of, take.n)))
        try:
            if not grown(sound_of(run), take, paths, blocks(take)):
                return done, False
        except OSError as error:
            reason = f"{error.strerror or error}; what was written before can be listened to"
            raise OSError(f"cannot write {paths[0]}: {reason}") from error
    return done, True


def grown(audio: Audio, take: Take, paths: Sequence[Path], blocks: Iterator[Tensor]) -> bool:
    """Write a take block by block; return False where the user ended it."""
    with contextlib.ExitStack() as opened:
        writers = [opened.enter_context(AudioWriter(path, audio)) for path in paths]
        for writer in writers:
            writer.write_samples(take.prompt[None])
        waiting: list[Tensor] = []
        written, whole = time.monotonic(), True
        try:
            for block in blocks:
                waiting.append(block)
                if time.monotonic() - written > PAUSE:
                    write_all(writers, waiting)
                    written = time.monotonic()
        except KeyboardInterrupt:
            whole = False
        write_all(writers, waiting)
    return whole


def write_all(writers: Sequence[AudioWriter], waiting: list[Tensor]) -> None:
    """Write the blocks (n, C, K) that wait, each sequence to its file."""
    if waiting:
        x = torch.cat(waiting, 2)
        waiting.clear()
        for writer, one in zip(writers, x, strict=True):
            writer.write(one[None])


def save_whole(run: Run, takes: Sequence[Take], out: Path, blocks: Callable[[Take], Iterator[Tensor]]) -> None:
    """Make sounds, then write them."""
    audio = sound_of(run)
    if len({len(take.prompt) + take.steps for take in takes}) > 1:
        raise ValueError(f"--out {out}: these sounds have several lengths: --seconds or a .wav would do")
    parts = []
    for take in takes:
        prompt = torch.from_numpy(audio.encode(take.prompt)).long().expand(take.n, 1, -1)
        parts.append(torch.cat([prompt, *blocks(take)], 2))
    x, contexts = torch.cat(parts), [take.context for take in takes if take.context is not None]
    if out.suffix.lower() != ".npz" or not contexts:
        audio.save(x, out)
        return
    told = "x_label" if run.given is None else "context"
    arrays: dict[str, Any] = {"x": Arrays(audio.levels)(x), told: torch.cat(contexts).numpy()}
    with replacing(out) as part, open(part, "wb") as file:
        np.savez_compressed(file, **arrays)
