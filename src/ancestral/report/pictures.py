"""Pictures made of pictures: samples with a class in each row, completions beside what was known."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ancestral.files import replacing

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["beside", "completions", "in_rows", "png", "save_png", "tiles"]

Array = NDArray[Any]

SMALLEST = 64  # pixels: smaller pictures are enlarged by a whole factor to at least half of this
UNKNOWN = (94, 129, 172)  # a blue that no grey picture holds
PAPER = 255


def tiles(rows: Sequence[Sequence["Image.Image | None"]], scale: int | None = None) -> "Image.Image":
    """Return pictures of one size in rows, on white; None leaves a place empty.

    Args:
        rows: at least one picture.
        scale: by how much each is enlarged, pixel by pixel; by default so that a person sees something.
    """
    from PIL import Image

    some = next(picture for row in rows for picture in row if picture is not None)
    scale = scale or max(1, SMALLEST // max(some.size))
    h, w = some.height * scale, some.width * scale
    line = 1 if scale == 1 else 2
    columns = max(len(row) for row in rows)
    out = np.full((len(rows) * (h + line) - line, columns * (w + line) - line, 3), PAPER, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            if picture is not None:
                top, left = i * (h + line), j * (w + line)
                out[top : top + h, left : left + w] = rgb(picture).repeat(scale, 0).repeat(scale, 1)
    return Image.fromarray(out)


def rgb(picture: "Image.Image") -> Array:
    """Return any picture as (H, W, 3) uint8; of 16 bits the upper 8."""
    x = np.asarray(picture)
    if x.dtype != np.uint8:
        x = (x >> 8).astype(np.uint8)
    return x if x.ndim == 3 else np.repeat(x[..., None], 3, axis=2)


def beside(blocks: Sequence["Image.Image"], gap: int = 12) -> "Image.Image":
    """Return blocks of one height side by side, on white."""
    from PIL import Image

    width = sum(block.width for block in blocks) + gap * (len(blocks) - 1)
    out, left = Image.new("RGB", (width, blocks[0].height), "white"), 0
    for block in blocks:
        out.paste(block, (left, 0))
        left += block.width + gap
    return out


def in_rows(pictures: Sequence["Image.Image"], labels: Sequence[int] | None = None) -> "Image.Image":
    """Return pictures as a square, or where they have labels with a row for each label, in ascending order."""
    if labels is None:
        columns = int(np.ceil(np.sqrt(len(pictures))))
        return tiles([pictures[i : i + columns] for i in range(0, len(pictures), columns)])
    mine = {
        label: [p for p, own in zip(pictures, labels, strict=True) if own == label] for label in sorted(set(labels))
    }
    return tiles(list(mine.values()))


def completions(
    originals: Sequence["Image.Image"], known: Tensor, drawn: Sequence[Sequence["Image.Image"]]
) -> "Image.Image":
    """Return a row for each original: itself, the part of it that was known, and what was drawn for the rest.

    Args:
        originals: N pictures.
        known: (H, W) bool.
        drawn: the completions of each original.
    """
    from PIL import Image

    given = [Image.fromarray(masked(rgb(picture), known.numpy())) for picture in originals]
    return beside([tiles([[p] for p in originals]), tiles([[p] for p in given]), tiles(drawn)])


def masked(picture: Array, known: Array) -> Array:
    """Return a picture (H, W, 3) whose unknown pixels have the colour of what is unknown."""
    return np.where(known[..., None], picture, np.array(UNKNOWN, np.uint8))


def png(picture: "Image.Image") -> bytes:
    """Return a picture as the content of a PNG file."""
    content = io.BytesIO()
    picture.save(content, "png")
    return content.getvalue()


def save_png(picture: "Image.Image", path: Path) -> None:
    """Write a PNG file, whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(png(picture))
