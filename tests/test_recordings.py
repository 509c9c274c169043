"""Windows of recordings, their log-mel features, and levels back to files."""

import numpy as np
import pytest
import soundfile
import torch

from ancestral.data import GIVEN, Audio, AudioWriter, Recordings, load, log_mel, rebuild, record
from ancestral.data.mel import BANDS
from datafiles import one_line


def of_lengths(lengths: list[int], window: int, channels: int = 1, **more: object) -> Recordings:
    """Recordings whose levels are all different."""
    x = torch.arange(channels * sum(lengths), dtype=torch.int32).reshape(channels, -1)
    return Recordings(x, torch.tensor(lengths), window, **more)


@pytest.mark.parametrize("past", [0, 1, 5, 100])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("window", [1, 4, 50])
def test_every_sample_is_new_once(window, channels, past):
    part = of_lengths([10, 1, 4, 23], window, channels)
    seen = []
    for index in torch.arange(len(part)).split(3):
        x, new, _ = part.batch(index, past)
        assert torch.equal(new.sum((1, 2)) * channels, part.counts(index))
        seen += [one[:, mask[0]] for one, mask in zip(x, new, strict=True)]
    assert torch.equal(torch.cat(seen, 1), part.x)


@pytest.mark.parametrize("past", [0, 3, 8, 100])
def test_the_past_is_the_real_past_of_the_same_recording(past):
    lengths, window = [10, 1, 23], 4
    part, begins = of_lengths(lengths, window), [0, 10, 11]
    for i in range(len(part)):
        x, new, _ = part.batch(torch.tensor([i]), past)
        start = int(x[0, 0][new[0, 0]][0])
        begin = begins[int(part.recording[i])]
        assert int(x[0, 0, 0]) == max(begin, start - past)
        assert x[0, 0].tolist() == list(range(int(x[0, 0, 0]), int(x[0, 0, 0]) + x.shape[2]))


def test_the_first_window_of_a_recording_begins_the_tensor():
    part = of_lengths([9, 9], 3)
    x, new, _ = part.batch(torch.tensor([0, 2, 3, 4]), 4)
    assert [int(row[0, 0]) for row in x] == [0, 2, 9, 9]
    assert [int(row[0].int().argmax()) for row in new] == [0, 4, 0, 3]


def test_all_windows_of_some_recordings():
    part = of_lengths([9, 2, 9], 3)
    assert part.windows_of(torch.tensor([0, 2])).tolist() == [0, 1, 2, 4, 5, 6]


def test_a_window_of_a_part_of_a_frame_is_refused():
    with pytest.raises(ValueError, match="window=5: give a multiple of 4"):
        of_lengths([9], 5, hop=4)


def test_an_impulse_lights_its_own_frame():
    x = np.zeros(256 * 9 + 100, np.int16)
    for frame in (0, 4, 9):
        x[:] = 0
        x[256 * frame + 50] = 30000
        features = log_mel(x, 8000)
        assert features.shape == (BANDS, 10)
        assert (features.argmax(1) == frame).all()
    assert (log_mel(np.zeros(700, np.int16), 8000) == -1).all()


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000])
def test_a_tone_lights_its_own_band(rate):
    centres = 700 * (10 ** (np.linspace(0, np.log10(1 + rate / 1400), BANDS + 2)[1:-1]) - 1)
    for band in (20, 50, 75):
        tone = np.sin(np.arange(8192) * (2 * np.pi * centres[band] / rate)) * 32767
        middle = log_mel(tone.astype(np.int16), rate)[:, 16]
        assert abs(int(middle.argmax()) - band) <= 1
        assert 0.8 < float(middle.max()) < 1.1
    noise = (np.random.default_rng(0).random(8192) * 60000 - 30000).astype(np.int16)
    assert log_mel(noise, rate)[:, 16].min() > -0.5  # no band is empty


def test_features_of_windows_are_those_of_the_recording(tmp_path):
    rng = np.random.default_rng(0)
    kept = {}
    for split, length in (("train", 5000), ("valid", 300), ("test", 2900)):
        kept[split] = rng.integers(-9000, 9000, length).astype(np.int16)
        (tmp_path / split).mkdir()
        soundfile.write(tmp_path / split / "a.wav", kept[split], 8000)
    data = load(tmp_path, given=GIVEN["mel"], window=500).reaching(600)
    assert (data.shape, data.options["window"], data.given.words) == ((1, 512), 500, "its log-mel spectrogram")
    assert data.given.channels(1) == BANDS
    for split, x in kept.items():
        whole, part = log_mel(x, 8000), data.splits[split]
        assert torch.equal(part.features, whole)
        for i in range(len(part)):
            levels, features = data.batch(split, torch.tensor([i]))
            first = max(0, 512 * i - 768) // 256  # the past is rounded up to whole frames
            assert torch.equal(features[0], whole[:, first : first + features.shape[2]])
            assert features.shape[2] == -(-levels.shape[2] // 256)


def test_features_of_several_windows_at_once(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(10):
        soundfile.write(tmp_path / f"{i}.wav", rng.integers(-9000, 9000, 900 + 300 * i).astype(np.int16), 8000)
    data = load(tmp_path, given=GIVEN["mel"], window=512).reaching(512)
    part = data.splits["train"]
    index = torch.arange(len(part))
    x, features = data.batch("train", index)
    for i in index.tolist():
        alone, own = data.batch("train", index[i : i + 1])
        assert torch.equal(x[i, :, : alone.shape[2]], alone[0])
        assert torch.equal(features[i, :, : own.shape[2]], own[0])


@pytest.mark.parametrize("restore", [Audio(8000, 256, True), Audio(8000, 65536, False), Audio(8000, 2**12, False)])
def test_levels_are_restored_from_a_record(restore):
    assert rebuild(record(restore)) == restore
    x = torch.randint(restore.levels, (3, 1, 500))
    back = restore(x)
    assert (back.dtype, back.shape) == (np.int16, (3, 1, 500))
    assert np.array_equal(restore.encode(back), x.numpy())
    assert np.array_equal(restore(x.float()), back)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_recordings_are_written(tmp_path, suffix):
    restore, x = Audio(11025, 256, True), torch.randint(256, (12, 1, 300))
    restore.save(x[:1], tmp_path / f"one{suffix}")
    sound, rate = soundfile.read(tmp_path / f"one{suffix}", dtype="int16")
    assert (rate, sound.tolist()) == (11025, restore(x)[0, 0].tolist())
    restore.save(x, tmp_path / f"out{suffix}")
    assert sorted(path.name for path in tmp_path.glob("out*")) == [f"out-{i:02}{suffix}" for i in range(1, 13)]
    sound, _ = soundfile.read(tmp_path / f"out-12{suffix}", dtype="int16")
    assert sound.tolist() == restore(x)[11, 0].tolist()
    restore.save(x[:2], tmp_path / f"few{suffix}")
    assert sorted(path.name for path in tmp_path.glob("few*")) == [f"few-1{suffix}", f"few-2{suffix}"]


def test_arrays_hold_the_levels(tmp_path):
    restore, x = Audio(8000, 65536, False), torch.randint(65536, (2, 1, 30))
    restore.save(x, tmp_path / "a.npz")
    restore.save(x, tmp_path / "a.npy")
    with np.load(tmp_path / "a.npz") as arrays:
        assert np.array_equal(arrays["x"], x.numpy())
    assert np.array_equal(np.load(tmp_path / "a.npy"), x.numpy())
    for some in (x, x[:1]):
        with pytest.raises(ValueError, match="of this data") as error:
            restore.save(some, tmp_path / "a.png")
        one_line(error, ".wav")


@pytest.mark.parametrize("channels", [1, 2])
def test_a_growing_file_can_be_read_while_it_grows(tmp_path, channels):
    restore, x, path = Audio(8000, 256, True), torch.randint(256, (1, channels, 90)), tmp_path / "sub" / "out.wav"
    with AudioWriter(path, restore, channels) as writer:
        for end in (30, 60, 90):
            writer.write(x[..., end - 30 : end])
            sound, rate = soundfile.read(path, dtype="int16", always_2d=True)
            assert (rate, writer.samples) == (8000, end)
            assert np.array_equal(sound.T, restore(x)[0, :, :end])
    whole, _ = soundfile.read(path, dtype="int16", always_2d=True)
    assert np.array_equal(whole.T, restore(x)[0])


def test_what_was_made_stays_after_an_error(tmp_path):
    x = torch.randint(256, (1, 1, 30))

    def stopped() -> None:
        with AudioWriter(tmp_path / "out.wav", Audio(8000, 256, True)) as writer:
            writer.write(x)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(soundfile.read(tmp_path / "out.wav")[0]) == 30


def test_what_cannot_grow(tmp_path):
    restore = Audio(8000, 256, True)
    with pytest.raises(ValueError, match=r"give a \.wav"):
        AudioWriter(tmp_path / "out.flac", restore)
    with AudioWriter(tmp_path / "out.wav", restore) as writer:
        with pytest.raises(ValueError, match=r"shape \(1, 1, T\), got \(2, 1, 5\)"):
            writer.write(torch.zeros(2, 1, 5))
        writer.samples = 2**31
        with pytest.raises(ValueError, match="4 GiB"):
            writer.write(torch.zeros(1, 1, 5))
