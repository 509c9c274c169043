"""The sections of report.html on sound: samples, continuations, where the bits are, timings, each to be heard or seen.

They are bounded in time, as a step may be slow, and in size: a page holds every sound that it plays.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ancestral.data import Audio, Data, Mel, Recordings
from ancestral.report.draws import in_turn, labels_for
from ancestral.report.figures import bits_picture, sound_picture, svg_of, wave_picture
from ancestral.report.page import columns, paragraph, picture, player, section, table
from ancestral.report.speed import rate, seconds, speeds_of
from ancestral.report.words import milliseconds
from ancestral.runs import Run

__all__ = ["Sounds", "bits_section", "continuations", "reach_line", "samples_section", "timings_section", "within"]

SAMPLES, PROMPTS, TIMES, SCORED = 6, 2, 3, 2
FEWEST = 3  # samples, where there are fewer recordings
LASTS = 1.0  # seconds of a sound
PLAYED = 24_000  # samples of a sound, at most: a page holds thirty
BUDGET = 10.0  # seconds for samples, as many for continuations
FRAME = 0.01  # seconds of a mean of bits
CHOSEN_FROM = 500  # recordings
TIMED, BATCH = 256, 16  # steps, and sequences at once


class Sounds(NamedTuple):
    """Some recordings, or how they begin.

    Attributes:
        x: (B, C, T) levels; of a shorter recording what follows its end is filling.
        lengths: of the recordings.
        context: as the model was built for, None for nothing.
        names: of their classes, or "".
    """

    x: Tensor
    lengths: list[int]
    context: Tensor | None
    names: list[str]

    def one(self, i: int) -> Tensor:
        """Return a recording (C, T) as long as it is."""
        return self.x[i, :, : self.lengths[i]]

    def told(self, i: int, n: int = 1) -> Tensor | None:
        """Return the context of one, n times."""
        if self.context is None:
            return None
        own = self.context[i : i + 1]
        own = own if own.dim() == 1 else own[:, :, : -(-self.lengths[i] // Mel.factor)]
        return own.expand(n, *own.shape[1:])


def reach_line(run: Run) -> str:
    """Return what a sample sees, in a sentence; nothing of other models than those of sequences."""
    reach = run.model.reach
    if not reach:
        return ""
    noun, lasts = ("step", "") if run.audio is None else ("sample", milliseconds(reach, run.audio.rate))
    return f"Receptive field: a {noun} sees the {reach:,} {noun}s{lasts} before it."


def samples_section(run: Run, data: Data | None) -> str:
    """Return samples, of the classes in turn, or of what test recordings give; beside these recordings."""
    sounds = None if data is None else beginnings(run, data, SAMPLES, LASTS)
    if sounds is None and run.given is not None:
        return ""
    told, count, steps = to_draw(run, sounds)
    made, parts = within(streamed(run, count, told, steps), BUDGET), []
    for i in range(count):
        own = made[i] if sounds is None or run.given is None else made[i, :, : sounds.lengths[i % len(sounds.lengths)]]
        parts.append(heard(run, own, f"sample{of_what(run, told, i)}", f"sample {i}"))
        if sounds is not None and i < len(sounds.lengths):
            parts.append(heard(run, sounds.one(i), f"a test recording{sounds.names[i]}", f"recording {i}"))
    lasts = f"{'' if run.given is None else 'at most '}{made.shape[2] / audio_of(run).rate:.2g} s each"
    note = f"Drawn from the model, {lasts}{stopped(made.shape[2] < steps, BUDGET)}"
    return section("Samples", paragraph(note, soft=True), columns(parts))


def to_draw(run: Run, sounds: Sounds | None) -> tuple[Tensor | None, int, int]:
    """Return what samples are told, that of recordings in turn where there are some, how many, and their steps."""
    steps = steps_of(run, LASTS)
    if sounds is None:
        names = run.classes
        labels = labels_for(run, SAMPLES if names is None else min(SAMPLES, len(names)))
        return labels, SAMPLES if labels is None else len(labels), steps
    count = max(FEWEST, len(sounds.lengths))
    told = None if sounds.context is None else sounds.context[torch.arange(count) % len(sounds.lengths)]
    return told, count, steps if run.given is None else sounds.x.shape[2]


def of_what(run: Run, told: Tensor | None, i: int) -> str:
    """Return what the i-th sample is of, to be said after "sample"."""
    if told is None:
        return ""
    names = run.classes
    return ", given the features of the recording" if names is None else f", class {names[int(told[i])]}"


def stopped(early: bool, budget: float) -> str:
    """Return the end of a sentence, which says where drawing was stopped before its end."""
    return f"; stopped after {budget:g} s of computing." if early else "."


def continuations(run: Run, data: Data | None) -> str:
    """Return test recordings, and how the model goes on after their first halves."""
    sounds = None if data is None else beginnings(run, data, PROMPTS, 2 * LASTS)
    if sounds is None:
        return ""
    parts, early, budget = [], False, BUDGET / len(sounds.lengths)
    for i, length in enumerate(sounds.lengths):
        known, whole = length // 2, sounds.one(i)
        past = whole[:, :known].expand(TIMES, -1, -1)
        blocks = streamed(run, TIMES, sounds.told(i, TIMES), length - known, past)
        made = torch.cat([past, within(blocks, budget)], 2)
        early = early or made.shape[2] < length
        takes = [(whole, f"a test recording{sounds.names[i]}"), *((take, "continued by the model") for take in made)]
        drawn = [samples_of(run, take) for take, _ in takes]
        loudest = max(np.abs(sound.astype(int)).max() / 2**15 for sound in drawn) or 1.0
        for j, ((take, caption), sound) in enumerate(zip(takes, drawn, strict=True)):
            drawing = svg_of(wave_picture(sound, audio_of(run).rate, known, loudest), f"continued {i} {j}")
            parts.append(player(audio_of(run).wav(take), drawing, caption, "waveform, the end of the prompt marked"))
    note = "What is grey was given, the first half of a test recording. The model goes on where the line is"
    return section("Continuations", paragraph(note + stopped(early, budget), soft=True), columns(parts))


def bits_section(run: Run, data: Data | None) -> str:
    """Return the bits of the samples of test recordings over time."""
    sounds = None if data is None else beginnings(run, data, SCORED, 2 * LASTS)
    if sounds is None:
        return ""
    rate, parts = audio_of(run).rate, []
    for i in range(len(sounds.lengths)):
        bits = bits_of(run, sounds, i)
        frame = max(1, round(FRAME * rate))
        starts = np.arange(0, len(bits), frame)
        means = np.add.reduceat(bits, starts) / np.diff(np.append(starts, len(bits)))
        drawing = svg_of(bits_picture(samples_of(run, sounds.one(i)), rate, means, frame), f"bits {i}")
        caption = (
            f"a test recording{sounds.names[i]}, {bits.mean():.2f} bits/sample; the line: means of {1000 * FRAME:g} ms"
        )
        parts.append(picture(drawing, caption, "bits of each sample over time, under the waveform"))
    return section("Where the bits are", *parts)


@torch.no_grad()
def bits_of(run: Run, sounds: Sounds, i: int) -> "np.ndarray[Any, Any]":
    """Return -log2 p of every sample of a recording given those before it, (T,) float64."""
    told = sounds.told(i)
    x = sounds.one(i)[None].to(run.model.device)
    log_p = run.model.log_probs(x, None if told is None else told.to(run.model.device))[0].sum(0)
    bits: np.ndarray[Any, Any] = -log_p.double().cpu().numpy() / math.log(2)
    return bits


def timings_section(run: Run) -> str:
    """Return how many samples a second there are here and now, by a parallel pass, streamed, and naively."""
    model, hertz = run.model, audio_of(run).rate
    rows = []

    def row(name: str, samples: int, took: float) -> None:
        rows.append((name, rate(samples / took), f"{rate(samples / took / hertz)} x"))

    channels, length = model.shape
    row(f"a parallel pass of {length:,} samples", length, pass_of(run, (channels, length)))
    for n in (1, BATCH):
        row(f"streaming {n} at once, all together" if n > 1 else "streaming", n * TIMED, streaming(run, n))
    row("naive: a pass over the receptive field for every sample", 1, pass_of(run, (channels, model.reach + 1)))
    where = f"now, on {model.device}, threads: {torch.get_num_threads()}"
    content = [table((where, "samples/s", "real time"), rows, (1, 2))]
    if speeds := speeds_of(run):
        speed = rate(float(np.median(speeds)))
        content.append(paragraph(f"Training, when it ran: {speed} windows of {length:,} samples a second.", True))
    return section("Timings", *content)


@torch.no_grad()
def pass_of(run: Run, shape: tuple[int, int]) -> float:
    """Return the seconds of a parallel pass over one sequence of that shape (C, T), the shortest of three."""
    model, (channels, length) = run.model, shape
    x = torch.randint(audio_of(run).levels, (1, channels, length), device=model.device)
    context = context_for(run, 1, length)
    return min(seconds(lambda: model.log_probs(x, context)) for _ in range(3))


def streaming(run: Run, n: int) -> float:
    """Return the seconds of `TIMED` steps of n sequences, after some that are not counted."""
    blocks = iter(streamed(run, n, context_for(run, n, 2 * TIMED), 2 * TIMED))
    sizes = itertools.accumulate(block.shape[2] for block in blocks)
    next(size for size in sizes if size >= TIMED)
    return seconds(lambda: list(sizes))


def context_for(run: Run, n: int, length: int) -> Tensor | None:
    """Return some context for n sequences of that length, made without data."""
    if run.given is None:
        context = run.some_context(n)
    else:
        example: Callable[..., Tensor] = run.model.conditioner.example  # type: ignore[union-attr, assignment]
        context = example(n, (run.model.shape[0], length), torch.Generator().manual_seed(0))
    return None if context is None else context.to(run.model.device)


def audio_of(run: Run) -> Audio:
    """Return what turns levels of a run of recordings into sound."""
    assert run.audio is not None
    return run.audio


def steps_of(run: Run, lasts: float) -> int:
    """Return how many samples so many seconds of sound have, or as many as a page shall hold."""
    return max(1, round(min(lasts * audio_of(run).rate, lasts / LASTS * PLAYED)))


def beginnings(run: Run, data: Data, n: int, lasts: float) -> Sounds | None:
    """Return how n recordings of the test part begin, so many seconds of them; None where there are none.

    They are of every class in turn, where there are labels, in a random order that is always the same.
    """
    part = data.split("test")
    if not isinstance(part, Recordings) or not len(part):
        return None
    hop = part.hop
    part = replace(part, window=-(-steps_of(run, lasts) // hop) * hop)
    order = torch.randperm(len(part.lengths), generator=torch.Generator().manual_seed(0))[:CHOSEN_FROM]
    chosen = (order if part.of is None else in_turn(order, part.of))[:n]
    index = torch.searchsorted(part.recording, chosen)  # the first window of each
    x, counted, features = part.batch(index, 0)
    context = features if features is not None else None if part.of is None else part.of[chosen]
    names = [
        "" if data.classes is None or part.of is None else f", class {data.classes[int(part.of[r])]}" for r in chosen
    ]
    told = run.told(context) if run.model.conditioner is not None else None
    return Sounds(x, counted[:, 0].sum(1).tolist(), told, names)


def streamed(run: Run, n: int, context: Tensor | None, steps: int, past: Tensor | None = None) -> Iterable[Tensor]:
    """Return the blocks of n sequences that go on after `past`, as they are made."""
    generator = torch.Generator().manual_seed(0)
    stream: Callable[..., Iterable[Tensor]] = run.model.stream  # type: ignore[assignment]
    return stream(n, context, steps=steps, past=past, generator=generator)


def within(blocks: Iterable[Tensor], budget: float) -> Tensor:
    """Return blocks (B, C, K) as one, on the CPU: all of them, or as many as come in so many seconds."""
    parts, end = [], time.perf_counter() + budget
    for block in blocks:
        parts.append(block.cpu())
        if time.perf_counter() > end:
            break
    return torch.cat(parts, 2)


def samples_of(run: Run, x: Tensor) -> "np.ndarray[Any, Any]":
    """Return the 16-bit samples (T,) of a recording (C, T), of its first channel."""
    samples: np.ndarray[Any, Any] = audio_of(run)(x[None])[0, 0]
    return samples


def heard(run: Run, x: Tensor, caption: str, name: str) -> str:
    """Return a recording (C, T) to be heard, with its waveform and spectrogram."""
    drawing = svg_of(sound_picture(samples_of(run, x), audio_of(run).rate), name)
    return player(audio_of(run).wav(x), drawing, caption, f"waveform and spectrogram of a {name}")
