"""Recordings as a source of data: what is read, what is converted, what is refused."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ancestral.data import BINARIZE, GIVEN, Data, Recordings, load, read_recording
from ancestral.data.entries import UnreadableError
from ancestral.data.mulaw import from_mu_law, to_mu_law
from ancestral.report.words import data_line
from ancestral.runs import relabelled
from ancestral.training.resuming import fingerprint
from datafiles import integers, npz, one_line, picture


def pcm(*shape: int) -> np.ndarray:
    return (integers(2**16, shape) - 2**15).astype(np.int16)


def recording(path: Path, x: np.ndarray | int = 100, rate: int = 8000, subtype: str | None = "PCM_16") -> np.ndarray:
    """Write samples (T,) or (T, channels), or so many random ones, and return them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x = pcm(x) if isinstance(x, int) else x
    soundfile.write(path, x, rate, subtype=subtype)
    return x


def several(folder: Path, count: int, samples: int = 100) -> list[np.ndarray]:
    return [recording(folder / f"{i:02}.wav", samples + i) for i in range(count)]


def sounds(data: Data, split: str) -> list[list[int]]:
    """The levels of each recording of a split."""
    part = data.splits[split]
    assert isinstance(part, Recordings)
    return [x[0].tolist() for x in part.x.split(part.lengths.tolist(), dim=1)]


def samples(x: np.ndarray) -> list[int]:
    return (x.astype(int) + 2**15).tolist()


def test_every_code_of_the_mu_law_comes_back():
    codes = np.arange(256)
    assert np.array_equal(to_mu_law(from_mu_law(codes)), codes)
    x = np.arange(-(2**15), 2**15, dtype=np.int16)
    sound = x / 32768
    formula = np.floor((np.sign(sound) * np.log1p(255 * np.abs(sound)) / np.log(256) + 1) / 2 * 255 + 0.5)
    assert np.array_equal(to_mu_law(x), formula)
    y = codes / 255 * 2 - 1
    back = np.sign(y) * np.expm1(np.abs(y) * np.log(256)) / 255
    assert np.array_equal(from_mu_law(codes), np.clip(np.rint(32768 * back), -32768, 32767))


def test_the_codes_of_spoken_digits_come_back(tmp_path, shared):
    with np.load(shared / "data" / "fsdd_8khz.npz") as arrays:
        codes = arrays["train_audio"][:400_000]
    recording(tmp_path / "a.wav", from_mu_law(codes))
    assert np.array_equal(torch.cat([p.x[0] for p in load(tmp_path / "a.wav").splits.values()]).numpy(), codes)


def test_splits_and_classes_of_a_folder(tmp_path):
    kept = {}
    for split, folder in (("train", "Train"), ("valid", "val"), ("test", "test")):
        for label in ("10", "9"):
            kept[split, label] = recording(tmp_path / folder / label / "a.wav", 30 + len(kept))
    recording(tmp_path / "train" / "9" / ".hidden.wav")
    (tmp_path / "train" / "notes.txt").write_text("no recording")
    data = load(tmp_path, linear=True, window=8)
    assert (data.classes, data.shape, data.levels, data.notes) == (("9", "10"), (1, 8), 65536, ())
    for (split, label), x in kept.items():
        part = data.splits[split]
        (at,) = (part.of == data.classes.index(label)).nonzero()
        assert sounds(data, split)[at[0]] == samples(x)
        assert torch.equal(part.labels, part.of[part.recording])
    x, context = data.batch("train", torch.tensor([0, len(data.splits["train"]) - 1]))
    assert (x.shape, context.tolist()) == ((2, 1, 8), [1, 0])


def test_one_class_is_no_label(tmp_path):
    several(tmp_path / "all", 10)
    data = load(tmp_path)
    assert (data.classes, data.splits["train"].labels) == (None, None)
    assert any("all recordings are in one class folder, 'all'" in note for note in data.notes)


def test_pictures_and_recordings_do_not_go_together(tmp_path):
    picture(tmp_path / "a.png")
    recording(tmp_path / "sub" / "b.wav")
    with pytest.raises(ValueError, match="one kind") as error:
        load(tmp_path)
    one_line(error, "a.png", "b.wav", "pictures (1", "recordings (1")


def test_recordings_beside_the_folders(tmp_path):
    for name in ("train/a.wav", "a.wav"):
        recording(tmp_path / name)
    with pytest.raises(ValueError, match="beside"):
        load(tmp_path)


def test_neither_pictures_nor_recordings(tmp_path):
    (tmp_path / "a.mp3").write_bytes(b"x")
    with pytest.raises(ValueError, match="no pictures or recordings") as error:
        load(tmp_path)
    one_line(error, "other files (1), such as a.mp3", ".flac", ".png")


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_sixteen_bits_are_read_exactly(tmp_path, suffix):
    x = recording(tmp_path / f"a{suffix}", np.concatenate([np.array([-32768, 32767, 0, -1], np.int16), pcm(500)]))
    found = read_recording(tmp_path / f"a{suffix}")
    assert (found.x.dtype, found.rate) == (np.int16, 8000)
    assert np.array_equal(found.x, x)


@pytest.mark.parametrize(("suffix", "kind"), [(".wav", "PCM_24"), (".flac", "PCM_24"), (".wav", "PCM_32")])
def test_more_bits_are_rounded(tmp_path, suffix, kind):
    x = np.array([0.0, 100.25, -100.25, 7.75, -32768, 32767.75]) / 32768
    recording(tmp_path / f"a{suffix}", x, subtype=kind)
    assert read_recording(tmp_path / f"a{suffix}").x.tolist() == [0, 100, -100, 8, -32768, 32767]


def test_eight_bits_are_spread(tmp_path):
    recording(tmp_path / "a.wav", np.array([-1.0, -1 / 128, 0, 5 / 128, 127 / 128]), subtype="PCM_U8")
    assert read_recording(tmp_path / "a.wav").x.tolist() == [-32768, -256, 0, 5 * 256, 127 * 256]


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE"])
def test_floats_are_clipped(tmp_path, kind):
    recording(tmp_path / "a.wav", np.array([-1.5, -1.0, 0.25, 0.5, 1.0, 3.0]), subtype=kind)
    assert read_recording(tmp_path / "a.wav").x.tolist() == [-32768, -32768, 8192, 16384, 32767, 32767]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_no_numbers(tmp_path, value):
    recording(tmp_path / "a.wav", np.array([0.0, value, 0.5]), subtype="FLOAT")
    with pytest.raises(UnreadableError, match="not finite"):
        read_recording(tmp_path / "a.wav")


@pytest.mark.parametrize("kind", ["PCM_16", "FLOAT"])
def test_several_channels_become_their_mean(tmp_path, kind):
    x = np.array([[100, 200], [-5, 8], [-32768, -32768], [32767, 32767]], np.int16)
    recording(tmp_path / "a.wav", x if kind == "PCM_16" else x / 32768, subtype=kind)
    several(tmp_path, 10)
    found = read_recording(tmp_path / "a.wav")
    assert (found.x.tolist(), found.channels) == ([150, 2, -32768, 32767], 2)
    assert any(note.startswith("1 recordings of several channels") for note in load(tmp_path).notes)


def sine(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return (np.sin(np.arange(int(rate * seconds)) * (2 * np.pi * hertz / rate)) * 20000).astype(np.int16)


def loudest(x: np.ndarray, rate: int) -> float:
    """The frequency with the most power, Hz."""
    return float(np.abs(np.fft.rfft(x)).argmax() * rate / len(x))


def test_ogg_is_read(tmp_path):
    recording(tmp_path / "a.ogg", sine(440, 16000), 16000, subtype="VORBIS")
    found = read_recording(tmp_path / "a.ogg")
    assert (found.x.dtype, found.rate, found.x.shape) == (np.int16, 16000, (16000,))
    assert loudest(found.x, 16000) == 440
    assert 18000 < int(np.abs(found.x[2000:-2000]).max()) < 22000


@pytest.mark.parametrize(("own", "rate"), [(44100, 8000), (8000, 22050), (16000, 8000)])
def test_resampling_keeps_the_tone(tmp_path, own, rate):
    recording(tmp_path / "a.wav", sine(440, own), own)
    found = read_recording(tmp_path / "a.wav", rate)
    assert (found.rate, found.own_rate, len(found.x)) == (rate, own, rate)
    assert loudest(found.x, rate) == 440
    middle = slice(rate // 10, -rate // 10)
    assert np.abs(found.x[middle].astype(int) - sine(440, rate)[middle]).max() < 40  # of 20000


def test_resampling_leaves_out_what_the_rate_cannot_hold(tmp_path):
    recording(tmp_path / "a.wav", sine(7000, 16000), 16000)
    assert np.abs(read_recording(tmp_path / "a.wav", 8000).x[500:-500].astype(int)).max() < 200


def test_mixed_rates(tmp_path):
    several(tmp_path, 10)
    recording(tmp_path / "z.wav", 200, 16000)
    with pytest.raises(ValueError, match="mixed rates") as error:
        load(tmp_path)
    one_line(error, "00.wav has 8000 Hz", "z.wav has 16000 Hz", "--rate HZ")
    data = load(tmp_path, rate=8000)
    assert (data.restore.rate, data.options["rate"]) == (8000, 8000)
    assert "1 recordings resampled to 8000 Hz" in data.notes
    assert "11 recordings resampled to 4000 Hz" in load(tmp_path, rate=4000).notes


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "ULAW", "FLOAT"])
def test_clipping_of_one_channel_is_seen_at_any_depth(tmp_path, subtype):
    quiet = sine(200, 8000) / 2**15
    loud = np.clip(4 * quiet, -1, 1)
    for right, clipped in ((quiet, False), (loud, True)):
        recording(tmp_path / "a.wav", np.stack([quiet, right], 1), subtype=subtype)
        assert read_recording(tmp_path / "a.wav").clipped is clipped


def test_silence_and_clipping_are_noted(tmp_path):
    several(tmp_path, 10)
    recording(tmp_path / "loud.wav", np.clip(sine(200, 8000).astype(int) * 4, -32768, 32767).astype(np.int16))
    recording(tmp_path / "peak.wav", np.array([0, 32767, 32767, 0, -32768, 5], np.int16))
    recording(tmp_path / "still.wav", np.full(50, 7, np.int16))
    notes = load(tmp_path).notes
    assert [n for n in notes if "clipped" in n] == [
        f"1 recordings are clipped (3 samples in a row at full scale), the first: {tmp_path / 'loud.wav'}"
    ]
    assert [n for n in notes if "silent" in n] == [
        f"1 recordings are silent (all their samples are equal), the first: {tmp_path / 'still.wav'}"
    ]


def spoil(path: Path, kind: str) -> None:
    recording(path, 4000 if kind != "no samples" else 0, subtype="VORBIS" if path.suffix == ".ogg" else "PCM_16")
    content = path.read_bytes()
    spoiled = {"truncated": content[: len(content) // 2], "cut": content[:-9], "no audio": b"no audio", "empty": b""}
    path.write_bytes(spoiled.get(kind, content))


@pytest.mark.parametrize("kind", ["truncated", "cut", "no audio", "empty", "no samples"])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_damaged_recordings(tmp_path, kind, suffix):
    several(tmp_path, 10)
    spoil(tmp_path / f"bad{suffix}", kind)
    spoil(tmp_path / "worse.wav", kind)
    with pytest.raises(OSError, match="cannot be read as a recording") as error:
        load(tmp_path)
    one_line(error, f"bad{suffix}", "nor can 1 more", "--skip-bad")
    assert str(error.value).count(f"bad{suffix}") == 1
    data = load(tmp_path, skip_bad=True)
    assert sum(part["recordings"] for part in data.recordings.values()) == 10
    assert any(note.startswith("2 recordings that cannot be read") for note in data.notes)


def test_a_header_written_before_the_length_was_known(tmp_path):
    x = recording(tmp_path / "a.wav", 300)
    content = (tmp_path / "a.wav").read_bytes()
    at = content.index(b"data") + 4
    (tmp_path / "a.wav").write_bytes(content[:at] + b"\xff" * 4 + content[at + 4 :])
    assert np.array_equal(read_recording(tmp_path / "a.wav").x, x)


def test_nothing_but_damaged_recordings(tmp_path):
    spoil(tmp_path / "a.wav", "no audio")
    for source in (tmp_path, tmp_path / "a.wav"):
        with pytest.raises(OSError, match="repair or remove"):
            load(source, skip_bad=True)


def test_drawn_splits(tmp_path):
    kept = several(tmp_path, 20)
    data = load(tmp_path, linear=True, window=16)
    assert [part["recordings"] for part in data.recordings.values()] == [16, 2, 2]
    found = [x for split in data.splits for x in sounds(data, split)]
    assert sorted(found) == sorted(samples(x) for x in kept)
    assert "no valid split in the source: 2 of its 20 recordings drawn with seed 0" in data.notes
    assert sounds(load(tmp_path, linear=True, seed=1), "test") != sounds(data, "test")


def test_few_recordings_give_their_last_tenths(tmp_path):
    a, b = recording(tmp_path / "a.wav", 105), recording(tmp_path / "b.wav", 9)
    data = load(tmp_path, linear=True)
    assert sounds(data, "train") == [samples(a[:85]), samples(b)]
    assert (sounds(data, "valid"), sounds(data, "test")) == ([samples(a[85:95])], [samples(a[95:])])
    (note,) = data.notes
    assert "fewer than 10 recordings: the last tenths" in note


def test_few_recordings_beside_a_test_part(tmp_path):
    a, test = recording(tmp_path / "train" / "a.wav", 50), recording(tmp_path / "test" / "b.wav", 30)
    data = load(tmp_path, linear=True)
    assert (sounds(data, "train"), sounds(data, "valid")) == ([samples(a[:45])], [samples(a[45:])])
    assert sounds(data, "test") == [samples(test)]


def test_labels_stay_with_what_is_cut_off(tmp_path):
    for label, length in (("no", 5), ("yes", 40)):
        recording(tmp_path / label / "a.wav", length)
    data = load(tmp_path)
    assert [data.splits[s].of.tolist() for s in data.splits] == [[0, 1], [1], [1]]


def test_too_few_samples_to_cut(tmp_path):
    recording(tmp_path / "a.wav", 9)
    with pytest.raises(ValueError, match="fewer than 10 samples") as error:
        load(tmp_path)
    one_line(error, "valid and test")


def test_without_a_train_part(tmp_path):
    x = recording(tmp_path / "test" / "a.wav", 40)
    data = load(tmp_path, linear=True)
    assert (sounds(data, "test"), len(data.splits["train"]), len(data.splits["valid"])) == ([samples(x)], 0, 0)
    assert data.describe()["recordings"]["train"] == {"recordings": 0, "seconds": 0}
    assert "0 train, 0 valid, 1 test recordings" in data_line(data)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_one_file(tmp_path, suffix):
    path = tmp_path / f"song{suffix}"
    recording(path, 8000, subtype="VORBIS" if suffix == ".ogg" else "PCM_16")
    data = load(path)
    assert (data.shape, data.levels, data.path) == ((1, 4096), 256, str(path))
    assert [part["seconds"] for part in data.recordings.values()] == [0.8, 0.1, 0.1]


def test_shorter_than_the_window(tmp_path):
    x = recording(tmp_path / "train" / "a.wav", 21)
    recording(tmp_path / "test" / "a.wav", 7)
    data = load(tmp_path, linear=True)
    got, _ = data.reaching(1000).batch("train", torch.tensor([0]))
    assert got[0, 0].tolist() == samples(x[:19])
    assert bool(data.examples("train", torch.tensor([0])).counted.all())


@pytest.mark.parametrize(("bits", "dtype"), [(16, torch.int32), (12, torch.int16), (8, torch.uint8), (1, torch.uint8)])
def test_top_bits_of_linear_levels(tmp_path, bits, dtype):
    x = recording(tmp_path / "train" / "a.wav", 200)
    recording(tmp_path / "test" / "a.wav", 20)
    data = load(tmp_path, linear=True, bits=bits)
    assert (data.levels, data.restore.levels, data.splits["train"].x.dtype) == (2**bits, 2**bits, dtype)
    assert sounds(data, "train")[0] == ((x[:180].astype(int) + 32768) >> (16 - bits)).tolist()
    back = data.restore(data.splits["train"].x[None])
    assert np.abs(back[0, 0].astype(int) - x[:180]).max() <= 2 ** (15 - bits)
    assert data.restore.encode(back[0, 0]).tolist() == sounds(data, "train")[0]


def test_what_is_recorded(tmp_path):
    several(tmp_path / "a", 10)
    several(tmp_path / "b", 10)
    recorded = load(tmp_path).describe()
    assert (recorded["shape"], recorded["levels"], recorded["counts"]) == (
        [1, 4096], 256, {"train": 16, "valid": 2, "test": 2},
    )  # fmt: skip
    own = {"rate": 8000, "linear": False, "window": 4096}
    assert {name: recorded["options"][name] for name in own} == own
    assert recorded["restore"] == {"class": "Audio", "arguments": {"rate": 8000, "levels": 256, "mu_law": True}}
    again = load(tmp_path, **{"rate": 8000, "linear": False, "window": 4096})
    assert again.describe() == recorded
    assert "rate" not in load("digits").options


def test_a_line_of_recordings(tmp_path):
    for label in ("no", "yes"):
        several(tmp_path / label, 10, samples=4000)
    line = "16 train, 2 valid, 2 test recordings (8.0 s, 1.0 s, 1.0 s at 8000 Hz); 256 mu-law levels, 2 classes"
    assert data_line(load(tmp_path)) == f"{tmp_path}: {line}"
    assert data_line(load(tmp_path, linear=True, bits=8)).endswith("256 linear levels, 2 classes")
    assert data_line(load(tmp_path, given=GIVEN["mel"])).endswith("levels, each with its log-mel spectrogram")


def test_the_fingerprint_is_of_lengths_and_labels_too(tmp_path):
    for label in ("no", "yes"):
        several(tmp_path / label, 10)
    data = load(tmp_path)
    valid = data.splits["valid"]
    others = (
        {"of": 1 - valid.of},
        {"of": None},
        {"lengths": valid.lengths + torch.tensor([1, -1])},
        {"x": valid.x.flip(1)},
    )
    splits = [{**data.splits, "valid": replace(valid, **other)} for other in others]
    prints = [fingerprint(load(tmp_path)), *(fingerprint(replace(data, splits=other)) for other in splits)]
    assert prints[0] == fingerprint(data)
    assert len(set(prints)) == 5


def test_labels_are_renumbered_as_a_run_has_them(tmp_path):
    for label in ("no", "yes"):
        several(tmp_path / label, 10)
    data = load(tmp_path)
    renumbered = relabelled(data, ("yes", "maybe", "no")).splits["train"]
    assert torch.equal(renumbered.of, 2 - 2 * data.splits["train"].of)
    assert torch.equal(renumbered.x, data.splits["train"].x)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"size": 8}, ("size, binarize, dequantize are for pictures", "leave them out")),
        ({"binarize": BINARIZE["static"]}, ("size, binarize, dequantize are for pictures",)),
        ({"dequantize": True}, ("size, binarize, dequantize are for pictures",)),
        ({"bits": 8}, ("bits=8", "mu-law", "--linear")),
        ({"bits": 17, "linear": True}, ("bits=17 of 65536 levels", "1 to 16 bits")),
        ({"bits": 0, "linear": True}, ("bits=0", "1 to 16 bits")),
        ({"given": GIVEN["grey"]}, ("given grey is for pictures", "mel would do")),
        ({"given": GIVEN["small"]}, ("given small is for pictures", "mel would do")),
        ({"rate": 0}, ("rate=0: give a positive integer",)),
        ({"rate": 8000.5}, ("rate=8000.5: give a positive integer",)),
        ({"window": -1}, ("window=-1: give a positive integer",)),
    ],
)
def test_options_that_do_not_fit_recordings(tmp_path, options, parts):
    several(tmp_path, 10)
    with pytest.raises(ValueError, match=re.escape(parts[0])) as error:
        load(tmp_path, **options)
    one_line(error, *parts)


@pytest.mark.parametrize("options", [{"rate": 8000}, {"linear": True}, {"window": 8}])
@pytest.mark.parametrize("kind", ["digits", "arrays", "pictures"])
def test_options_that_are_for_recordings_only(tmp_path, kind, options):
    source = npz(tmp_path / "a.npz", train=integers(4, (30, 1, 64))) if kind == "arrays" else tmp_path
    if kind == "pictures":
        for i in range(10):
            picture(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match="are for recordings") as error:
        load("digits" if kind == "digits" else source, **options)
    one_line(error, "rate, linear, window", "leave them out")


@pytest.mark.parametrize("source", ["digits", "sequences"])
def test_mel_is_for_recordings_only(tmp_path, source):
    path = npz(tmp_path / "a.npz", train=integers(4, (30, 1, 64)))
    with pytest.raises(ValueError, match="given mel is for recordings"):
        load("digits" if source == "digits" else path, given=GIVEN["mel"])


@pytest.mark.parametrize("rate", [1, 10_000_000])
def test_rates_that_are_none(tmp_path, rate):
    several(tmp_path, 2)
    with pytest.raises(ValueError, match=f"rate={rate}: give samples a second, from 100 to 768000"):
        load(tmp_path, rate=rate)


def test_a_whole_source_is_all_test_part(tmp_path):
    written = several(tmp_path, 4)
    data = load(tmp_path, linear=True, whole=True)
    assert [len(data.split(name)) for name in ("train", "valid", "test")] == [0, 0, 4]
    assert torch.equal(data.split("test").x[0], torch.from_numpy(np.concatenate(written)).int() + 32768)
