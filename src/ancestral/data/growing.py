"""A WAV file that grows: sound is written as it is made, to be listened to while it goes on."""

import contextlib
import wave
from pathlib import Path
from types import TracebackType

from torch import Tensor

from .restore import Audio

__all__ = ["AudioWriter"]

MOST_BYTES = 2**32 - 2**10  # of the samples: a WAV says its length in 32 bits


class AudioWriter:
    """Writes blocks of levels to the end of a .wav of 16 bits.

    It is written in place, not under a temporary name as other files are: after every `write` it is a whole file of
    what there is so far, and it stays if making the sound ends with an error.

    Args:
        path: of the file; one that is there is replaced, and the folders above are made.
        restore: of the levels.
        channels: of the blocks.

    Raises:
        ValueError: the path does not end in .wav.
        OSError: it cannot be written.
    """

    def __init__(self, path: str | Path, restore: Audio, channels: int = 1) -> None:
        self.path, self.restore, self.channels, self.samples = Path(path), restore, channels, 0
        if self.path.suffix.lower() != ".wav":
            raise ValueError(f"cannot write {path} block by block: give a .wav")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            self._file = opened.enter_context(open(self.path, "wb"))
            # it brings the header up to date with every block, as soundfile does not
            self._wave = opened.enter_context(wave.open(self._file, "wb"))
            self._opened = opened.pop_all()
        self._wave.setparams((channels, 2, restore.rate, 0, "NONE", ""))

    def __enter__(self) -> "AudioWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    def write(self, x: Tensor) -> None:
        """Write a block of levels (1, C, T).

        Raises:
            ValueError: it has another shape, or the file would be longer than a WAV can be: 4 GiB.
        """
        if x.dim() != 3 or x.shape[:2] != (1, self.channels):
            raise ValueError(f"a block must be levels of shape (1, {self.channels}, T), got {tuple(x.shape)}")
        if 2 * self.channels * (self.samples + x.shape[2]) > MOST_BYTES:
            raise ValueError(f"{self.path} is full: a .wav holds 4 GiB; make shorter ones")
        self._wave.writeframes(self.restore(x)[0].T.astype("<i2").tobytes())
        self._file.flush()
        self.samples += x.shape[2]
