"""The command line with recordings: a run of them, sound that grows while it is made, continuations, mistakes."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from ancestral import checkpoint, data, testing
from ancestral.cli.pace import Pace
from ancestral.cli.takes import Take, of_test, stream_of, write_sounds
from ancestral.data import Audio, read_recording
from ancestral.data.restore import Arrays
from ancestral.likelihoods import Categorical
from ancestral.models import WaveNet
from ancestral.runs import open_run
from calls import Call, Done, exit_status

RATE = 4000
SMALL = ["--set", "layers=3", "channels=4", "--steps", 2, "--batch-size", 4, "--window", 512]


def tone(seed: int, length: int) -> NDArray[np.int16]:
    generator = np.random.default_rng(seed)
    x = np.sin(np.arange(length) * generator.uniform(0.1, 0.5)) + generator.normal(0, 0.05, length)
    return (8000 * x).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of two classes, of different lengths."""
    root = tmp_path_factory.mktemp("data") / "tones"
    for split, each in (("train", 4), ("valid", 1), ("test", 2)):
        for i in range(2 * each):
            path = root / split / ("low", "high")[i % 2] / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(len(split) + i, 700 + 50 * i), RATE, subtype="PCM_16")
    return root


def trained(out: Path, folder: Path, *words: object) -> tuple[Path, Done]:
    text, err = io.StringIO(), io.StringIO()
    with redirect_stdout(text), redirect_stderr(err):
        status = exit_status("train", "wavenet", "--data", folder, "--out", out, *SMALL, *words)
    assert status == 0, err.getvalue()
    return out, Done(status, text.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[Path, Done]:
    return trained(tmp_path_factory.mktemp("runs") / "tones", folder)


@pytest.fixture(scope="module")
def run(training: tuple[Path, Done]) -> Path:
    """A class-conditional run of mu-law codes."""
    return training[0]


@pytest.fixture(scope="module")
def mel_run(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """A run of 16-bit samples, given spectrograms."""
    return trained(tmp_path_factory.mktemp("runs") / "mel", folder, "--linear", "--given", "mel", "--rate", 8000)[0]


@pytest.fixture(scope="module")
def pictures_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    torch.manual_seed(0)
    model = testing.tiny("gated-pixelcnn", shape=(1, 8, 8), likelihood=Categorical(17))
    checkpoint.save(model, folder, data=data.load("digits").describe())
    return folder


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    """A recording of the run's rate, whose samples are no mu-law values, shorter than the receptive field."""
    soundfile.write(tmp_path / "prompt.wav", np.array([1, -2, 300, 12345, -9], np.int16), RATE, subtype="PCM_16")
    return tmp_path / "prompt.wav"


def sound(path: Path) -> tuple[NDArray[np.int16], int]:
    samples, rate = soundfile.read(path, dtype="int16")
    return samples, rate


def arrays_of(path: Path) -> dict[str, Any]:
    with np.load(path) as arrays:
        return dict(arrays)


# --- training and evaluation --------------------------------------------------------------------------------------


def test_train(training: tuple[Path, Done]) -> None:
    out, done = training
    assert "8 train, 2 valid, 4 test recordings" in done.err
    assert "at 4000 Hz); 256 mu-law levels, 2 classes" in done.err
    assert "likelihood=Categorical(levels=256), channels=4, layers=3" in done.err
    assert "bits/sample" in done.out.splitlines()[0]
    options = json.loads((out / "config.json").read_text())["data"]["options"]
    assert (options["rate"], options["linear"], options["window"]) == (RATE, False, 512)


def test_train_on_spectrograms(mel_run: Path) -> None:
    config = json.loads((mel_run / "config.json").read_text())
    arguments = config["model"]["arguments"]
    assert arguments["likelihood"]["class"] == "DiscretizedLogisticMixture"
    assert arguments["likelihood"]["arguments"]["levels"] == 65536
    assert arguments["conditioner"]["class"] == "Frames"
    assert arguments["conditioner"]["arguments"].items() >= {"channels": 80, "hop": 256}.items()
    assert config["data"]["restore"]["arguments"] == {"rate": 8000, "levels": 65536, "mu_law": False}


def test_resume_keeps_the_data(call: Call, run: Path, folder: Path) -> None:
    resume = ["train", "--out", run, "--resume"]
    assert call(*resume, "--data", folder, "--rate", RATE, "--window", 512).status == 0
    for words, says in (
        (["--rate", 8000], "--rate 8000: the run in"),
        (["--window", 256], "has 512"),
        (["--linear"], "--linear True: the run in"),
        (["--given", "mel"], "--given mel"),
    ):
        done = call(*resume, *words)
        assert done.status == 1
        assert says in done.error


def test_models_that_do_not_fit(call: Call, folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "series.npz", x=np.zeros((20, 1, 64), np.uint8))
    for words, says in (
        (["pixelcnn", "--data", folder], f"pixelcnn is for pictures, {folder} holds recordings: wavenet would do"),
        (["made", "--data", folder], "holds recordings: wavenet would do"),
        (["gated-pixelcnn", "--data", folder, "--given", "mel"], "wavenet would do"),
        (["wavenet", "--data", "digits"], "digits holds examples 1 x 8 x 8: gated-pixelcnn would do"),
        (["pixelcnn", "--data", tmp_path / "series.npz"], "holds examples 1 x 64: wavenet would do"),
        (["wavenet", "--data", folder, "--given", "grey"], "mel would do"),
        (["wavenet", "--data", "digits", "--rate", 8000], "for recordings"),
        (["wavenet", "--data", folder, "--size", 8], "size"),
    ):
        done = call("train", *words, "--steps", 1, "--out", tmp_path / "run")
        assert done.status == 1
        assert says in done.error
    assert call("train", "wavenet", "--data", folder, "--rate", 0, "--out", tmp_path / "run").status == 2
    assert not (tmp_path / "run").exists()


def test_evaluate_other_recordings(call: Call, run: Path, folder: Path, tmp_path: Path) -> None:
    done = call("evaluate", run, "--json")
    assert done.err == f"evaluating 4 recordings of the test part of {folder}\n"
    own = done.json
    assert (own["noun"], own["count"], own["rate"]) == ("recordings", 4, RATE)
    other = tmp_path / "other"
    for label in ("high", "low"):
        for path in sorted((folder / "test" / label).iterdir()):
            x, rate = sound(path)
            (other / "test" / label).mkdir(parents=True, exist_ok=True)
            soundfile.write(other / "test" / label / f"{path.stem}.flac", x, rate, subtype="PCM_16")
    found = call("evaluate", run, "--data", other, "--json").json
    assert found["nats"] == pytest.approx(own["nats"])
    (other / "test" / "high").rename(other / "test" / "hihg")
    assert "has the class 'hihg', the run's classes are high, low" in call("evaluate", run, "--data", other).error
    assert "digits holds no recordings, the run was trained on" in call("evaluate", run, "--data", "digits").error
    assert "unknown data source 'digit'" in call("evaluate", run, "--data", "digit").error


def test_evaluate_a_run_of_spectrograms(call: Call, mel_run: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "test", tmp_path / "other" / "test")
    own, other = (call("evaluate", mel_run, *words, "--json").json for words in ([], ["--data", tmp_path / "other"]))
    assert own["nats"] == pytest.approx(other["nats"])
    assert (own["rate"], own["given"]) == (8000, "its log-mel spectrogram")


# --- samples ------------------------------------------------------------------------------------------------------


def test_sample(call: Call, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.wav"
    done = call("sample", run, "--out", out, "--seconds", 0.05, "--seed", 3)
    assert done.status == 0, done.err
    assert re.fullmatch(r"0\.05 of 0\.05 s, [\d.e+]+ x real time\n", done.err)
    assert re.match(r"1 sample of 0\.05 s, class high, in .* samples/s, .* x real time\): ", done.out)
    with wave.open(str(out)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        assert file.getnframes() == 200
    opened = open_run(run)
    audio = opened.audio
    assert audio is not None
    model = opened.model
    assert isinstance(model, WaveNet)
    blocks = model.stream(1, torch.tensor([0]), steps=200, generator=torch.Generator().manual_seed(3))
    assert np.array_equal(sound(out)[0], audio(torch.cat(list(blocks), 2))[0, 0])


def test_several_samples_are_numbered(call: Call, run: Path, tmp_path: Path) -> None:
    done = call("sample", run, "--out", tmp_path / "out.wav", "-n", 3, "--seconds", 0.02, "--json")
    found = done.json
    assert found["written"] == [str(tmp_path / f"out-{i}.wav") for i in (1, 2, 3)]
    assert found["labels"] == ["high", "low", "high"]
    assert (found["n"], found["seconds"], found["rate"], found["interrupted"]) == (3, 0.02, RATE, False)
    assert found["real_time_factor"] == pytest.approx(0.02 / found["elapsed"])
    assert found["samples_per_second"] == pytest.approx(3 * 80 / found["elapsed"])
    sounds = [sound(Path(path))[0] for path in found["written"]]
    assert [len(x) for x in sounds] == [80] * 3
    assert not np.array_equal(sounds[0], sounds[2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-1.wav", "out-2.wav", "out-3.wav"]


def test_two_seconds_by_default(call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def stream(self: WaveNet, n: int, context: Any, **how: Any) -> Iterator[Tensor]:
        asked.append((n, context.tolist(), how["steps"], how["temperature"], how["compiled"]))
        yield torch.zeros(n, 1, how["steps"], dtype=torch.long)

    monkeypatch.setattr(WaveNet, "stream", stream)
    assert call("sample", run, "--out", tmp_path / "a.wav", "--context", "low", "--temperature", 0.5).status == 0
    done = call("complete", run, "--out", tmp_path / "a.wav", "--context", "low", "--compile")
    assert asked == [(1, [1], 2 * RATE, 0.5, False), (1, [1], 2 * RATE, 1.0, True)]
    assert "compiling" in done.err


def test_other_files(call: Call, run: Path, tmp_path: Path) -> None:
    words = ["sample", run, "--seconds", 0.02, "-n", 2, "--out"]
    assert call(*words, tmp_path / "out.wav").status == 0
    assert call(*words, tmp_path / "out.flac").status == 0
    done = call(*words, tmp_path / "out.npz", "--json")
    assert done.json["written"] == [str(tmp_path / "out.npz")]
    arrays = arrays_of(tmp_path / "out.npz")
    assert arrays["x"].dtype == np.uint8
    assert arrays["x"].shape == (2, 1, 80)
    assert arrays["x_label"].tolist() == [0, 1]
    for i in (1, 2):
        x, rate = sound(tmp_path / f"out-{i}.flac")
        assert rate == RATE
        assert np.array_equal(x, sound(tmp_path / f"out-{i}.wav")[0])
        levels = torch.from_numpy(arrays["x"][i - 1 : i].astype(np.int64))
        assert np.array_equal(x, Audio(RATE, 256, mu_law=True)(levels)[0, 0])


def test_a_sound_can_be_heard_while_it_grows(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ancestral.cli.takes.PAUSE", 0.0)
    opened, generator, seen = open_run(run), torch.Generator().manual_seed(0), []

    def watched(take: Take) -> Iterator[Tensor]:
        for block in stream_of(opened, take, generator):
            seen.append([len(sound(path)[0]) for path in tmp_path.glob("*.wav")])
            yield block

    paths, whole = write_sounds(opened, [Take(2, 40, torch.tensor([0, 1]))], tmp_path / "out.wav", watched)
    assert whole
    assert seen == [[8 * i, 8 * i] for i in range(5)]
    assert [len(sound(path)[0]) for path in paths] == [40, 40]


@pytest.fixture
def listening() -> Iterator[None]:
    """Ctrl-C is heard, even where a shell that started this in the background had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_control_c_keeps_what_there_is(call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = WaveNet.stream

    def interrupted(self: WaveNet, *args: Any, **how: Any) -> Iterator[Tensor]:
        for i, block in enumerate(stream(self, *args, **how)):
            if i == 10:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
            yield block

    monkeypatch.setattr(WaveNet, "stream", interrupted)
    done = call("sample", run, "--out", tmp_path / "out.wav", "-n", 2)
    assert done.status == 0
    assert done.out.splitlines()[0] == "interrupted after 0.02 of 2.00 s; what there is was kept"
    assert [len(sound(tmp_path / f"out-{i}.wav")[0]) for i in (1, 2)] == [80, 80]
    assert call("sample", run, "--out", tmp_path / "out.wav", "--json").json["interrupted"] is True
    assert call("sample", run, "--out", tmp_path / "out.npz").status == 130
    assert not (tmp_path / "out.npz").exists()


def test_a_full_disk_is_one_line(call: Call, run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in call("sample", run, "--out", tmp_path / "file" / "s.wav", "--seconds", 0.01).error
    code = """import resource, sys
from ancestral.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
main(sys.argv[1:])"""
    words = ["sample", str(run), "--out", str(tmp_path / "s.wav"), "--seconds", "0.2"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: cannot write {tmp_path / 's.wav'}: File too large")
    assert "Traceback" not in done.stderr


# --- what is given ------------------------------------------------------------------------------------------------


def test_samples_of_spectrograms(call: Call, mel_run: Path, prompt: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.stack([tone(1, 300), tone(2, 300)], 1), RATE, subtype="PCM_24")
    words = ["sample", mel_run, "--input", tmp_path / "a.flac", prompt, "-n", 3, "--out", tmp_path / "out.wav"]
    found = call(*words, "--json").json
    assert found["labels"] is None
    assert [sound(Path(path))[0].shape for path in found["written"]] == [(600,), (600,), (10,)]
    assert {sound(Path(path))[1] for path in found["written"]} == {8000}
    assert "2 recordings, give at least as many" in call(*words[:-4], "-n", 1, "--out", tmp_path / "b.wav").error
    short = ["--seconds", 0.01, "--out", tmp_path / "c.npz"]
    assert call("sample", mel_run, *short).status == 0  # of the test part
    arrays = arrays_of(tmp_path / "c.npz")
    assert arrays["x"].dtype == np.uint16
    assert arrays["x"].shape == (1, 1, 80)
    assert arrays["context"].shape == (1, 80, 1)


def test_mistakes_with_what_is_given(call: Call, run: Path, mel_run: Path, prompt: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "x.wav"]
    for words, says in (
        (["sample", run, "--input", prompt, *out], "is given no recording; leave it out"),
        (["sample", mel_run, "--context", "low", *out], "is given its log-mel spectrogram; leave it out"),
        (["sample", mel_run, "--input", prompt, "--seconds", 1, *out], "prompt.wav lasts 0.00 s; leave it out"),
        (["sample", mel_run, "--input", tmp_path / "no.wav", *out], "no such recording"),
        (["sample", mel_run, "--input", prompt, prompt, "--compile", *out], "give one --input"),
        (["complete", mel_run, "--input", prompt, *out], "sample RUN --input would do"),
    ):
        done = call(*words)
        assert done.status == 1
        assert says in done.error
    assert not (tmp_path / "x.wav").exists()


# --- continuations ------------------------------------------------------------------------------------------------


def test_continuations_begin_with_the_prompt(call: Call, run: Path, prompt: Path, tmp_path: Path) -> None:
    words = ["complete", run, "--input", prompt, "--context", "low", "--seconds", 0.02, "-n", 3]
    found = call(*words, "--out", tmp_path / "c.wav", "--json").json
    assert found["written"] == [str(tmp_path / f"c-{i}.wav") for i in (1, 2, 3)]
    assert found["labels"] == ["low"] * 3
    assert found["prompt_seconds"] == pytest.approx(5 / RATE)
    assert (found["seconds"], found["n"]) == (0.02, 3)
    sounds = [sound(Path(path))[0] for path in found["written"]]
    assert all(np.array_equal(x[:5], sound(prompt)[0]) and len(x) == 85 for x in sounds)
    assert len({x.tobytes() for x in sounds}) == 3
    model = open_run(run).model
    assert isinstance(model, WaveNet)
    audio = Audio(RATE, 256, mu_law=True)
    past, own = torch.from_numpy(audio.encode(sound(prompt)[0]))[None], torch.Generator().manual_seed(0)
    blocks = torch.cat(list(model.stream(3, torch.tensor([1] * 3), steps=80, past=past, generator=own)), 2)
    assert np.array_equal(np.stack(sounds)[:, 5:], audio(blocks)[:, 0])


def test_prompts_are_brought_to_the_run(call: Call, run: Path, tmp_path: Path) -> None:
    x = np.stack([tone(1, 400), tone(2, 400)], 1)
    soundfile.write(tmp_path / "stereo.wav", x.astype(np.int32) * 2**16, 2 * RATE, subtype="PCM_24")
    soundfile.write(tmp_path / "silence.wav", np.zeros(100, np.int16), RATE)
    soundfile.write(tmp_path / "loud.wav", np.full(100, 32767, np.int16), RATE)
    for name, length in (("stereo.wav", 200), ("silence.wav", 100), ("loud.wav", 100)):
        words = ["--input", tmp_path / name, "--context", 0, "--seconds", 0.01]
        done = call("complete", run, *words, "--out", tmp_path / "c.wav")
        assert done.status == 0, done.err
        known = sound(tmp_path / "c.wav")[0]
        assert len(known) == length + 40
        assert np.array_equal(known[:length], read_recording(tmp_path / name, RATE).x)


def test_half_of_a_test_recording_by_default(call: Call, run: Path, folder: Path, tmp_path: Path) -> None:
    done = call("complete", run, "--context", "low", "--seconds", 0.01, "--out", tmp_path / "c.wav", "--json")
    (recorded,) = of_test(open_run(run).data(), 1, 0, label=1)
    half = recorded.levels.shape[1] // 2
    assert recorded.label == 1
    known = sound(tmp_path / "c.wav")[0]
    assert len(known) == half + 40
    assert np.array_equal(known[:half], Audio(RATE, 256, mu_law=True)(recorded.levels[None])[0, 0, :half])
    originals = [data.read_recording(path).x for path in (folder / "test" / "low").iterdir()]
    audio = Audio(RATE, 256, mu_law=True)
    assert any(np.array_equal(audio.encode(x), recorded.levels[0].numpy()) for x in originals)
    assert done.json["labels"] == ["low"]
    unnamed = call("complete", run, "--seconds", 0.01, "--out", tmp_path / "c.wav", "--json", "--seed", 1)
    assert unnamed.json["labels"][0] in ("low", "high")


def test_mistakes_with_prompts(call: Call, run: Path, prompt: Path, pictures_run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.int16), RATE)
    out = ["--out", tmp_path / "x.wav"]
    own = ["complete", run, *out, "--context", "low", "--input"]
    for words, says in (
        ([*own, tmp_path / "text.wav"], "cannot be read as a recording"),
        ([*own, tmp_path / "empty.wav"], "it holds no samples"),
        ([*own, tmp_path / "no.wav"], "no such recording"),
        ([*own, tmp_path], "no such recording"),
        (["complete", run, "--input", prompt, *out], "name its class with --context: high, low"),
        (["complete", run, "--input", prompt, "--context", "lwo", *out], "did you mean 'low'?"),
        ([*own, prompt, "--known", "top"], "--known top: it is for pictures"),
        ([*own, prompt, "--proposals", 2], "--proposals 2: it is for pictures"),
        ([*own, prompt, "--seconds", 0], "give more than 0"),
        ([*own, prompt, "--seconds", 1e9], "at 4000 Hz at most"),
        (["complete", run, "--out", tmp_path / "x.png"], ".wav, .flac, .npz, .npy"),
        (["sample", run, "--out", tmp_path / "x.png"], ".wav, .flac, .npz, .npy"),
        (["sample", run, "--context", "lwo", *out], "no such class"),
        (["sample", pictures_run, "--out", tmp_path / "x.png", "--seconds", 1], "is no run of recordings"),
        (["sample", pictures_run, "--out", tmp_path / "x.png", "--compile"], "is no run of recordings"),
        (["sample", pictures_run, "--out", tmp_path / "x.wav"], ".png, .npz, .npy"),
        (["complete", pictures_run, "--out", tmp_path / "x.png", "--seconds", 1, "--known", "top"], "no run of rec"),
    ):
        done = call(*words)
        assert done.status == 1
        assert says in done.error
    assert not list(tmp_path.glob("x.*"))


def test_wrong_usage(call: Call, run: Path, pictures_run: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "x.wav"]
    for words, says in (
        (["complete", pictures_run, "--out", tmp_path / "x.png"], "--known PART is missing"),
        (["sample", run, *out, "--seconds", -1], "--seconds"),
        (["sample", run, *out, "--seconds", "long"], "--seconds"),
        (["sample", run, *out, "-n", 0], "-n"),
        (["complete", run, "--seconds", 1], "--out"),
    ):
        done = call(*words)
        assert done.status == 2
        assert says in done.error


def test_a_model_without_a_stream(call: Call, run: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = json.loads((run / "config.json").read_text())
    model = testing.tiny("made", shape=(1, 8), likelihood=Categorical(256))
    checkpoint.save(model, tmp_path / "run", data=config["data"])
    assert "wavenet would do" in call("sample", tmp_path / "run", "--out", tmp_path / "x.wav").error


def test_other_sequences_are_arrays(call: Call, tmp_path: Path) -> None:
    torch.manual_seed(0)
    np.savez(tmp_path / "series.npz", x=np.random.default_rng(0).integers(4, size=(20, 1, 24)))
    series = data.load(tmp_path / "series.npz")
    assert isinstance(series.restore, Arrays)
    model = testing.tiny("wavenet", shape=(1, 24), likelihood=Categorical(4))
    checkpoint.save(model, tmp_path / "run", data=series.describe())
    assert call("sample", tmp_path / "run", "-n", 3, "--out", tmp_path / "out.npz").status == 0
    assert arrays_of(tmp_path / "out.npz")["x"].shape == (3, 1, 24)
    assert "no run of recordings" in call("sample", tmp_path / "run", "--seconds", 1, "--out", tmp_path / "o.npz").error


# --- the pace -----------------------------------------------------------------------------------------------------


def test_the_pace_leaves_out_what_is_made_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 11.0, 12.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    pace = Pace(24, 8, first=1)
    assert len(list(pace.over(iter([torch.zeros(2, 1, 8)] * 3)))) == 3
    assert (pace.factor, pace.values_per_second, pace.elapsed) == (1.0, 16.0, 12.0)
    assert (pace.done, pace.times) == ("3.00 of 3.00 s", "1 x real time")


def test_few_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = iter(range(1, 1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(now)))
    with Pace(800, 8) as pace:
        for _ in pace.over(iter([torch.zeros(1, 1, 8)] * 100)):
            pass
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "100.00 of 100.00 s, 1 x real time"
    assert 5 < len(err.splitlines()) <= 11


def test_a_bar_on_a_terminal(call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = call("sample", run, "--out", tmp_path / "x.wav", "--seconds", 0.02, "--json")
    assert done.json["seconds"] == 0.02
    assert "0.02 of 0.02 s" in done.err


def test_a_run_of_recordings_knows_its_data(mel_run: Path, run: Path, pictures_run: Path) -> None:
    assert open_run(run).audio == Audio(RATE, 256, mu_law=True)
    assert open_run(pictures_run).audio is None
    opened = open_run(mel_run)
    context = opened.some_context(2)
    assert context is not None
    assert context.shape == (2, 80, 2)
    assert opened.told(context) is context
    with pytest.raises(ValueError, match="is given its log-mel spectrogram, no picture"):
        opened.given_of(torch.zeros(1, 1, 4))


def test_what_is_read_is_not_overwritten(call: Call, run: Path, prompt: Path) -> None:
    before = prompt.read_bytes()
    done = call("complete", run, "--input", prompt, "--context", "low", "--out", prompt, "--seconds", 0.01)
    assert done.status == 1
    assert done.error == f"--out {prompt} is the --input: it would be lost; give another file"
    assert prompt.read_bytes() == before


def test_other_recordings_are_evaluated_whole(call: Call, run: Path, folder: Path) -> None:
    """The same files without the folders that make them a test part."""
    own = call("evaluate", run, "--json").json
    other = call("evaluate", run, "--data", folder / "test", "--json").json
    assert other["values"] == own["values"] == 2 * (700 + 750 + 800 + 850) // 2
    assert other["nats"] == pytest.approx(own["nats"])


def test_durations_of_several_takes_are_of_all(call: Call, mel_run: Path, tmp_path: Path) -> None:
    soundfile.write(prompt := tmp_path / "tone.wav", tone(1, 400), RATE, subtype="PCM_16")
    words = ["--input", prompt, "-n", 2, "--seconds", 0.05]
    assert "2 samples of 0.05 s" in call("sample", mel_run, *words, "--out", tmp_path / "a.wav").out
    words = ["--input", prompt, prompt, "-n", 2, "--seconds", 0.05]
    assert "2 samples of 0.10 s in all" in call("sample", mel_run, *words, "--out", tmp_path / "b.wav").out
