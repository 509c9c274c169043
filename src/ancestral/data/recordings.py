"""Recordings of any length, cut into windows that are scored once each: a window carries the real past as context."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Recordings"]


@dataclass(frozen=True)
class Recordings:
    """One part of a data set of sequences. Its examples are windows: so many new samples, and those before them.

    Args:
        x: (C, N) all recordings end to end: uint8, int16 or int32 levels in [0, K), or float32.
        lengths: (R,) int64, samples of each recording, at least 1.
        window: new samples of an example; the last of a recording has what is left.
        of: (R,) int64 labels of the recordings, or None.
        features: (F, M) float32 of all recordings end to end, ceil(length / hop) frames each, or None.
        hop: samples of a frame. It divides the window.
        files: the file that each recording was read from, or None.
    """

    x: Tensor
    lengths: Tensor
    window: int
    of: Tensor | None = None
    features: Tensor | None = None
    hop: int = 1
    files: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % self.hop:
            raise ValueError(f"window={self.window}: give a multiple of {self.hop}, the samples of a frame")
        windows = -(-self.lengths // self.window)  # of each recording
        recording = torch.arange(len(self.lengths)).repeat_interleave(windows)
        number = torch.arange(len(recording)) - (windows.cumsum(0) - windows)[recording]
        first = (self.lengths.cumsum(0) - self.lengths)[recording]
        start = first + number * self.window
        frames = -(-self.lengths // self.hop)
        places = {
            "recording": recording,
            "first": first,
            "start": start,
            "end": torch.minimum(start + self.window, first + self.lengths[recording]),
            "frame": (frames.cumsum(0) - frames)[recording],
        }
        object.__setattr__(self, "_places", places)

    def __len__(self) -> int:
        return len(self.recording)

    @property
    def recording(self) -> Tensor:
        """Which recording each window is of, (W,) int64."""
        return self._places["recording"]  # type: ignore[attr-defined]

    @property
    def labels(self) -> Tensor | None:
        """The label of each window, (W,) int64, or None."""
        return None if self.of is None else self.of[self.recording]

    def counts(self, index: Tensor) -> Tensor:
        """Return how many values are new in each of the windows `index`, (B,) int64."""
        places = self._places  # type: ignore[attr-defined]
        return (places["end"] - places["start"])[index] * len(self.x)

    def widths(self, index: Tensor, past: int) -> Tensor:
        """Return how many samples each of the windows `index` has with its past, (B,) int64."""
        first, start, end = (self._places[n][index] for n in ("first", "start", "end"))  # type: ignore[attr-defined]
        return end - torch.maximum(first, start - -(-past // self.hop) * self.hop)

    def new(self, index: Tensor) -> Tensor:
        """Return the new samples of the windows `index`, end to end: (C, their sum)."""
        start, end = (self._places[n][index].tolist() for n in ("start", "end"))  # type: ignore[attr-defined]
        return torch.cat([self.x[:, :0], *(self.x[:, a:b] for a, b in zip(start, end, strict=True))], 1)

    def windows_of(self, recordings: Tensor) -> Tensor:
        """Return the indices of all windows of these recordings, ascending."""
        return torch.isin(self.recording, recordings).nonzero().squeeze(1)

    def batch(self, index: Tensor, past: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return windows with up to `past` samples before them, what is new in them, and their features.

        The past ends where the recording begins: there a window is told by its place in the tensor, so that the model
        pads as it does before any first sample. What follows the window's last sample is filling.

        Args:
            index: (B,) int64.
            past: samples, rounded up to whole frames.

        Returns:
            x (B, C, T), bool (B, 1, T) where values are new, and features (B, F, ceil(T / hop)) or None. T is what the
            longest of them needs.
        """
        first, start, end, frame = (self._places[n][index] for n in ("first", "start", "end", "frame"))  # type: ignore[attr-defined]
        past = -(-past // self.hop) * self.hop
        begin = torch.maximum(first, start - past)
        at = begin[:, None] + torch.arange(int((end - begin).max()) if len(index) else 1)
        x = self.x[:, torch.minimum(at, end[:, None] - 1)].movedim(0, 1)
        new = (at >= start[:, None]) & (at < end[:, None])
        if self.features is None:
            return x, new[:, None], None
        frames = -(-x.shape[2] // self.hop)
        begun = frame + (begin - first) // self.hop
        last = frame + (end - 1 - first) // self.hop
        shown = torch.minimum(begun[:, None] + torch.arange(frames), last[:, None])
        return x, new[:, None], self.features[:, shown].movedim(0, 1)
