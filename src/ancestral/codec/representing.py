"""What a model takes of pictures, recordings, arrays and tables: their levels, where nothing is lost, and back.

Whatever was read is only taken where the levels bring back exactly that; `Unsuited` says why not.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ancestral.data.audio import read_recording
from ancestral.data.parts import compact
from ancestral.data.pictures import Picture, read_picture
from ancestral.data.restore import Audio, Layout, Pictures, Restore, Table
from ancestral.model import Model
from ancestral.models.latent import LatentVariables

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Takes", "Unsuited", "content_of", "image_of", "is_kind", "rate_of", "values_of"]

Array = NDArray[Any]

GREY = {"1": 2, "8": 256, "16": 65536}  # kinds of grey pictures, by the levels that they have
COLOUR = "rgb"
RATE = "hz"  # before the rate of a recording


class Unsuited(ValueError):  # noqa: N818 (it is no error: such a file is stored as it is)
    """A model cannot represent something exactly; it says why in a few words."""


@dataclass(frozen=True)
class Takes:
    """What a model of levels takes.

    Args:
        shape: of its examples.
        levels: K.
        restore: of the data that it was trained on.
        classes: their names, or None.
        padded: whether examples of other sizes can be cut into tiles that are padded.
    """

    shape: tuple[int, ...]
    levels: int
    restore: Restore
    classes: tuple[str, ...] | None
    padded: bool

    @classmethod
    def of(cls, model: Model, restore: Restore, classes: tuple[str, ...] | None) -> "Takes":
        """Return what a model takes; raise ValueError where it is of continuous data."""
        levels = model.likelihood.levels
        if levels is None:
            raise ValueError(f"its data is continuous ({model.likelihood}): only levels can be compressed")
        return cls(model.shape, levels, restore, classes, not isinstance(model, LatentVariables))

    def fits(self, size: tuple[int, ...]) -> None:
        """Raise `Unsuited` unless levels of that shape can be cut into examples."""
        if len(size) != len(self.shape) or 0 in size or (size[0] != self.shape[0]):
            raise Unsuited(f"shape {size}, the model takes {self.shape}")
        if not self.padded and size != self.shape:
            raise Unsuited(f"shape {size}: a model with latents takes {self.shape} only")

    def picture(self, path: Path) -> tuple[str, Tensor]:
        """Return the kind of a picture and its levels (C, H, W).

        Raises:
            Unsuited: the run is not of pictures, or the levels would not bring back the same pixels.
            OSError: the file cannot be read as a picture; ValueError: it holds what no model takes, such as alpha.
        """
        if not isinstance(self.restore, Pictures) or len(self.shape) != 3:
            raise Unsuited("a picture, the model is not of pictures")
        picture = read_picture(path)
        kind = COLOUR if len(picture.x) == 3 else next(k for k, levels in GREY.items() if levels == picture.levels)
        x = self.levels_of(self.channelled(picture), picture.levels)
        self.fits(x.shape)
        return kind, torch.from_numpy(x)

    def channelled(self, picture: Picture) -> Array:
        """Return a picture with the model's channels: grey ones three times, colours once where they are grey."""
        x, channels = picture.x, self.shape[0]
        if len(x) == 1 and channels == 3:
            return x.repeat(3, axis=0)
        if len(x) == 3 and channels == 1:
            if bool((x != x[:1]).any()):
                raise Unsuited("colours, the model is of grey pictures")
            return x[:1]
        return x

    def levels_of(self, x: Array, levels: int) -> Array:
        """Return values in [0, levels) as levels of the model, in the smallest integers that hold them.

        Raises:
            Unsuited: other values would come back.
        """
        found = np.rint(x.astype(np.float64) * ((self.levels - 1) / (levels - 1))).astype(np.int64)
        if not np.array_equal(values_of(found, self.levels, levels), x):
            raise Unsuited(f"values that are none of the model's {self.levels} levels")
        return compact(found, self.levels)

    def recording(self, path: Path) -> tuple[str, Tensor]:
        """Return the kind of a recording and its levels (1, T).

        Raises:
            Unsuited: the run is not of recordings, or the levels would not bring back the same samples.
            OSError: the file cannot be read as a recording.
        """
        if not isinstance(self.restore, Audio):
            raise Unsuited("a recording, the model is not of recordings")
        found = read_recording(path)
        if found.channels > 1:
            raise Unsuited(f"{found.channels} channels")
        if not found.exact:
            raise Unsuited("samples that are not of 16 bits")
        x = self.restore.encode(found.x[None])
        if not np.array_equal(self.restore(torch.from_numpy(x))[0], found.x):
            law = "codes of the mu-law (train --linear takes all)" if self.restore.mu_law else f"{self.levels} levels"
            raise Unsuited(f"samples that are none of the model's {law}")
        self.fits(x.shape)
        return f"{RATE}{found.rate}", torch.from_numpy(x)

    def array(self, x: Array) -> tuple[Tensor, int]:
        """Return an array of integers as levels (N, *shape), and how many levels its values were scaled from.

        Raises:
            Unsuited: it holds something else, or the levels would not bring back the same.
        """
        if x.dtype.kind not in "biu" or x.ndim < 2 or not x.size:
            raise Unsuited(f"{x.dtype} {x.shape}, no examples of integers")
        if x.min() < 0:
            raise Unsuited("negative integers")
        examples = x[:, None] if x.ndim == len(self.shape) else x
        self.fits(examples.shape[1:])
        top = int(x.max())
        if top < self.levels:
            return torch.from_numpy(compact(examples, self.levels)), self.levels
        full = next((levels for levels in GREY.values() if top < levels), None)
        if full is None:
            raise Unsuited(f"integers up to {top}")
        return torch.from_numpy(self.levels_of(examples, full)), full

    def rows(self, columns: tuple[str, ...], rows: Array) -> Tensor:
        """Return rows (N, D) of a table as levels.

        Raises:
            Unsuited: other columns than the run has, or values that it has not.
        """
        if not isinstance(self.restore, Table):
            raise Unsuited("a table, the model is not of tables")
        if columns != self.restore.columns:
            raise Unsuited("other columns than the table that the model was trained on")
        values = self.restore.values or ((0.0, 1.0),) * len(columns)
        coded = [np.searchsorted(v, column).clip(0, len(v) - 1) for v, column in zip(values, rows.T, strict=True)]
        x = torch.from_numpy(compact(np.stack(coded, 1), self.levels))
        if not np.array_equal(self.restore(x), rows):
            raise Unsuited("values that the table has not that the model was trained on")
        return x

    def text(self, x: Tensor, layout: Layout, text: bytes) -> None:
        """Raise `Unsuited` unless rows, written in a layout, are that text."""
        if not isinstance(self.restore, Table) or self.restore.csv(x, layout) != text:
            raise Unsuited("cells that would come back written otherwise (such as 007, 1.0, quotes or spaces)")


def values_of(x: Array, levels: int, full: int) -> Array:
    """Return levels in [0, `levels`) as values in [0, `full`), int64."""
    return np.rint(x.astype(np.float64) * ((full - 1) / (levels - 1))).astype(np.int64)


def is_kind(kind: str) -> bool:
    """Return whether there is such a kind of picture or recording."""
    return kind in GREY or kind == COLOUR or rate_of(kind) is not None


def rate_of(kind: str) -> int | None:
    """Return the rate of recordings of a kind, None of pictures."""
    rate = kind.removeprefix(RATE)
    return int(rate) if rate != kind and rate.isascii() and rate.isdecimal() and len(rate) < 10 else None


def image_of(kind: str, x: Tensor, levels: int) -> "Image.Image":
    """Return the picture of a kind whose levels (C, H, W) these are, of K."""
    from PIL import Image

    if kind == COLOUR:
        colours = values_of(x.numpy(), levels, 256).astype(np.uint8)
        return Image.fromarray(np.ascontiguousarray(np.broadcast_to(colours.transpose(1, 2, 0), (*x.shape[1:], 3))))
    values = values_of(x[0].numpy(), levels, GREY[kind])
    if kind == "1":
        return Image.fromarray((values * 255).astype(np.uint8)).convert("1", dither=Image.Dither.NONE)
    return Image.fromarray(values.astype(np.uint16 if kind == "16" else np.uint8))


def content_of(kind: str, x: Tensor, restore: Restore) -> bytes:
    """Return the content of the .png or .wav file of a kind whose levels (C, ...) these are.

    Raises:
        ValueError: there is no such kind in a run whose levels `restore` brings back.
    """
    rate = rate_of(kind)
    if isinstance(restore, Pictures) and x.dim() == 3 and rate is None and is_kind(kind):
        content = io.BytesIO()
        image_of(kind, x, restore.levels).save(content, "png")
        return content.getvalue()
    if isinstance(restore, Audio) and x.dim() == 2 and rate:
        return replace(restore, rate=rate).wav(x)
    raise ValueError(f"a file of the kind {kind!r} does not come from this run")
