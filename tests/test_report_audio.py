"""The report and the verification of runs of recordings: what is heard, what is seen, and over how long."""

import base64
import io
import json
import math
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from ancestral import checkpoint
from ancestral.conditioning import Frames
from ancestral.data import GIVEN, Data, Given, Recordings, load
from ancestral.evaluation import evaluate
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture
from ancestral.model import Model
from ancestral.models import WaveNet
from ancestral.report import audio, write_report
from ancestral.report.contents import verification
from ancestral.report.field import field_of, walked
from ancestral.report.figures import decibels, sound_picture, svg_of, wave_picture
from ancestral.report.verify import agrees, field_findings, step_findings, stretches, sums, verified, write_verdict
from ancestral.runs import Run, open_run
from ancestral.training import train

RATE, REACH = 2000, 16
LENGTHS = {"train": (900, 700, 800, 600), "valid": (500, 640), "test": (700, 512, 300)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones of two classes."""
    folder, draw = tmp_path_factory.mktemp("tones"), np.random.default_rng(0)
    for split, lengths in LENGTHS.items():
        for i, length in enumerate(lengths):
            name = ("high", "low")[i % 2]
            phase = np.arange(length) * (0.9 if name == "high" else 0.2) + draw.uniform(0, 6)
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            x = 0.3 * np.sin(phase) + 0.02 * draw.normal(size=length)
            soundfile.write(folder / split / name / f"{i}.wav", x, RATE, subtype="PCM_16")
    return folder


def trained(data: Data, out: Path, **arguments: object) -> Run:
    torch.manual_seed(0)
    settings = {"likelihood": Categorical(256), "channels": 6, "layers": 6, "cycle": 3}
    model = WaveNet(shape=data.shape, **{**settings, **arguments})
    train(model, data, out, steps=4, batch_size=4)
    return open_run(out, "cpu")


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(load(folder, window=256), tmp_path_factory.mktemp("runs") / "tones", classes=2)


@pytest.fixture(scope="module")
def given(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that is given features of what it shall make."""
    mel: Given = GIVEN["mel"]
    conditioner = Frames(channels=80, hop=256, features=4, repeat=True)
    data = load(folder, window=256, given=mel)
    return trained(data, tmp_path_factory.mktemp("runs") / "given", conditioner=conditioner)


def players(page: str) -> list[tuple[np.ndarray, int]]:
    """The sounds of a page, as int16 samples and their rate."""
    found = re.findall(r'<audio controls preload="metadata" src="data:audio/wav;base64,([^"]+)"></audio>', page)
    return [soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="int16") for content in found]


def section_of(page: str, title: str) -> str:
    return page.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    evaluation = evaluate(run.model, run.data())
    checkpoint.write_json(run.folder / "evaluation-test.json", evaluation.to_json() | {"source": run.source})
    return write_report(run).read_text("utf-8")


# --- the page -----------------------------------------------------------------------------------------------------


def test_samples_are_heard_beside_recordings(page: str, folder: Path) -> None:
    samples = section_of(page, "Samples")
    sounds = players(samples)
    assert [rate for _, rate in sounds] == [RATE] * 6
    assert [len(x) for x, _ in sounds[::2]] == [RATE] * 3  # a second each
    names = re.findall(r"<figcaption>(.*?)</figcaption>", samples)
    assert sorted(names[::2]) == ["sample, class high", "sample, class high", "sample, class low"]
    assert [name.removeprefix("sample") for name in names[::2]] == [
        n.removeprefix("a test recording") for n in names[1::2]
    ]
    files = {len(x): x for x, _ in map(soundfile.read, folder.glob("test/*/*.wav"))}
    for x, _ in sounds[1::2]:  # of mu-law codes, so with the noise of these
        np.testing.assert_allclose(x / 2**15, files.pop(len(x)), atol=0.01)
    assert not files
    assert samples.count("<svg") == samples.count("waveform and spectrogram") == 6
    assert samples.count('xlink:href="data:image/png;base64,') == 6


def test_continuations_go_on_after_the_prompt(page: str) -> None:
    sounds = [x for x, _ in players(section_of(page, "Continuations"))]
    assert len(sounds) == audio.PROMPTS * (1 + audio.TIMES)
    for first in (0, 1 + audio.TIMES):
        whole, *takes = sounds[first : first + 1 + audio.TIMES]
        known = len(whole) // 2
        assert all(len(take) == len(whole) and (take[:known] == whole[:known]).all() for take in takes)
        assert all((one[known:] != other[known:]).any() for one, other in pairwise([whole, *takes]))


def test_bits_of_every_sample(run: Run, page: str) -> None:
    sounds = audio.beginnings(run, run.data(), 3, 1.0)
    assert sounds is not None
    bits = [audio.bits_of(run, sounds, i) for i in range(3)]
    assert [len(b) for b in bits] == sounds.lengths
    mean = sum(b.sum() for b in bits) / sum(LENGTHS["test"])
    assert mean == pytest.approx(evaluate(run.model, run.data()).bits_per_dim, rel=1e-5)
    found = re.findall(r"class (\w+), ([\d.]+) bits/sample", section_of(page, "Where the bits are"))
    assert [float(value) for _, value in found] == pytest.approx([b.mean() for b in bits[: audio.SCORED]], abs=0.005)


def test_page_says_what_is_of_sound(run: Run, page: str) -> None:
    assert "Receptive field: a sample sees the 16 samples (8.0 ms at 2000 Hz) before it." in page
    assert "all 3 recordings of the test part" in page
    assert "Bits/sample are all bits over all samples" in page
    assert "bits/dim" not in page
    assert "256, mu-law" in page
    rows = re.findall(r"<tr><td>(.*?)</td>.*?>([\d,.]+) x</td>", section_of(page, "Timings"))
    assert [name.partition(" ")[0] for name, _ in rows] == ["a", "streaming", "streaming", "naive:"]
    assert "windows of 256 samples a second" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#|https://arxiv.org/)', page)
    assert len(page) < 3e6
    ids = re.findall(r' id="([mp][0-9a-f]{10})"', page)
    assert len(ids) == len(set(ids)) > 0


def test_page_without_its_data(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    gone = run.config | {"data": run.config["data"] | {"source": str(tmp_path / "gone")}}
    page = write_report(run._replace(folder=tmp_path / "run", config=gone)).read_text("utf-8")
    assert "cannot be read" in page
    assert [len(x) for x, _ in players(page)] == [RATE, RATE]  # one of each class
    assert not section_of(page, "Continuations")
    assert not section_of(page, "Where the bits are")
    assert section_of(page, "Timings")
    verdict = verified_quickly(run._replace(config=gone))
    assert "samples of the model" in verdict["examples"]
    assert verdict["passed"]


def test_samples_of_what_is_given(given: Run) -> None:
    data = given.data()
    page = audio.samples_section(given, data)
    sounds = [x for x, _ in players(page)]
    assert [len(x) for x in sounds[::2]] == [len(x) for x in sounds[1::2]]
    assert sorted(map(len, sounds[::2])) == sorted(LENGTHS["test"])
    assert "sample, given the features of the recording" in page
    assert len(players(audio.continuations(given, data))) == audio.PROMPTS * (1 + audio.TIMES)
    assert not audio.samples_section(given, None)


def test_samples_end_when_the_time_is_up() -> None:
    seen = []

    def blocks():
        for i in range(10):
            seen.append(i)
            yield torch.full((1, 1, 2), i)

    assert audio.within(blocks(), 60.0)[0, 0].tolist() == [i for i in range(10) for _ in range(2)]
    seen.clear()
    assert audio.within(blocks(), 0.0).shape == (1, 1, 2)
    assert seen == [0]


def test_figures_of_extreme_sound() -> None:
    tone = (2**14 * np.sin(np.arange(8000) * math.pi / 2)).astype(np.int16)
    power = decibels(tone, RATE)
    loudest = power[:, 20].argmax() * (RATE / 2) / (len(power) - 1)
    assert loudest == pytest.approx(RATE / 4, abs=40)
    assert power.max() == 0
    for samples in (np.zeros(500, np.int16), np.array([-(2**15)], np.int16)):
        for fig in (sound_picture(samples, RATE), wave_picture(samples, RATE, len(samples) // 2, 1)):
            assert svg_of(fig, "x").startswith("<svg")


# --- the verification ---------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract of small copies has tests of its own."""
    monkeypatch.setattr("ancestral.testing.outcomes", lambda model: [])


def verified_quickly(run: Run) -> dict:
    return verified(run).to_json()


def test_reach_is_measured_in_samples_and_milliseconds(run: Run) -> None:
    verdict = verified(run)
    findings = {f.name: f for f in verdict.trained}
    assert [f.status for f in verdict.trained] == ["passed"] * 5
    assert run.model.reach == REACH
    assert (
        findings["receptive field"].detail
        == "the earliest sample seen is 16 before (8.0 ms at 2000 Hz); declared are 16"
    )
    assert findings["blind spot"].detail == "none: every step within reach has an influence"
    assert "over 145 steps, 8.5 receptive fields" in findings["walk = parallel pass"].detail
    assert "2 x 145 samples of the test part" in verdict.examples
    numbers = verdict.numbers["receptive_field"]
    assert (numbers["reach"], numbers["measured_reach"], numbers["seen"], numbers["leaks"]) == (16, 16, 16, 0)
    assert numbers["reach_ms"] == 8.0
    assert verdict.picture is not None
    write_verdict(verdict, run.folder)
    assert json.loads((run.folder / "verify.json").read_text())["passed"]
    assert (run.folder / "verify.png").read_bytes().startswith(b"\x89PNG")
    assert "the earliest sample seen is 16 before" in verification(run)


def test_a_model_that_is_given_features_is_verified(given: Run) -> None:
    assert verified_quickly(given)["passed"]


def test_a_leak_in_time_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ancestral.walk.shift_right", lambda x: x)
    findings = {f.name: f for f in verified(run).trained}
    assert findings["walk = parallel pass"].status == "failed"
    looked = lambda x: torch.nn.functional.pad(x, (0, 2))[..., 2:]  # noqa: E731
    monkeypatch.setattr("ancestral.walk.shift_right", looked)
    verdict = verified(run)
    findings = {f.name: f for f in verdict.trained}
    assert findings["no leak"].status == "failed"
    assert verdict.numbers["receptive_field"]["leaks"] > 0
    assert not verdict.passed


def test_what_is_not_declared_and_what_is_not_seen(run: Run) -> None:
    x = torch.randint(256, (2, 1, 60))
    context = torch.tensor([0, 1])
    field = field_of(run.model, x, context, (0, 50), walked(run.model, x, context).place)
    assert [f.status for f in step_findings(field, REACH, RATE)[0]] == ["passed"] * 3
    farther = field.strength.clone()
    farther[0, 20] = 1e-9
    findings, numbers, _ = step_findings(field._replace(strength=farther), REACH, None)
    assert [f.status for f in findings] == ["passed", "failed", "passed"]
    assert findings[1].detail == "the earliest step seen is 30 before; 1 more than the model declares"
    assert "reach_ms" not in numbers["receptive_field"]
    fewer = field.strength.clone()
    fewer[0, 40:44] = 0
    findings, numbers, _ = step_findings(field._replace(strength=fewer), REACH, RATE)
    assert findings[2].detail == "75.0% of the 16 steps within reach have an influence here"
    assert numbers["receptive_field"]["seen"] == 12
    short = field_of(run.model, x[..., :13], context, (0, 11), torch.arange(13)[None])
    assert "declared are 16, of which 11 are there" in step_findings(short, REACH, RATE)[0][1].detail


def test_stretches_are_of_the_longest_recordings(run: Run) -> None:
    part = run.data().split("test")
    assert isinstance(part, Recordings)
    x, context = stretches(part, 400)
    order = part.lengths.argsort(descending=True)[:2]
    whole = part.x.split(part.lengths.tolist(), 1)
    assert all(torch.equal(own, whole[r][:, :400]) for own, r in zip(x, order.tolist(), strict=True))
    assert part.of is not None
    assert context is not None
    assert context.tolist() == part.of[order].tolist()
    assert stretches(part, 10**6)[0].shape == (2, 1, sum(LENGTHS["test"]))
    features = torch.randn(3, sum(-(-n // 256) for n in part.lengths.tolist()))
    described = replace(part, features=features, hop=256)
    x, frames = stretches(described, 600)
    assert frames is not None
    assert frames.shape == (2, 3, 3)


@pytest.mark.parametrize("likelihood", [Bernoulli(), DiscretizedLogisticMixture(2**16, components=2)])
def test_series_of_several_channels(likelihood: Bernoulli, run: Run) -> None:
    model: Model = WaveNet(shape=(2, 24), likelihood=likelihood, channels=4, layers=4, cycle=2).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x: Tensor = torch.randint(likelihood.levels or 2, (4, 2, 24))
    walk = walked(model, x)
    arrays = run.config["data"] | {"restore": {"class": "Arrays", "arguments": {"levels": likelihood.levels}}}
    findings, numbers, fig = field_findings(run._replace(model=model, config={"data": arrays}), x, None, walk)
    assert fig is not None
    assert [f.status for f in [*findings, sums(walk), agrees(walk, model.reach)]] == ["passed"] * 5
    assert numbers["receptive_field"]["measured_reach"] == model.reach == 8
    assert "later steps are seen" in findings[0].detail
    assert walk.factors == walk.summed == 48


def test_few_of_many_large_tables_are_added_up(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr("ancestral.report.field.SUMMED", 256 * 10)
    walk = walked(run.model, torch.randint(256, (1, 1, 40)), torch.tensor([0]))
    assert (walk.factors, walk.summed) == (40, 10)
    assert sums(walk).detail.startswith("10 of 40 factors")


def test_few_recordings_and_no_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "LASTS", 0.2)
    soundfile.write(tmp_path / "one.wav", 0.3 * np.sin(np.arange(3000) / 5), RATE, subtype="PCM_16")
    data = load(tmp_path / "one.wav", window=256, linear=True)
    run = trained(data, tmp_path / "run", likelihood=DiscretizedLogisticMixture(2**16, components=2))
    sounds = [x for x, _ in players(audio.samples_section(run, run.data()))]
    assert sorted(map(len, sounds)) == [300, *[RATE // 5] * audio.FEWEST]
    monkeypatch.setattr(audio, "BUDGET", 0.0)
    assert "stopped after 0 s of computing" in audio.samples_section(run, run.data())
    assert "Receptive field" in audio.reach_line(run)
    assert verified_quickly(run)["passed"]
