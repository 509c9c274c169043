"""What a completion is given: the part of a picture that is known, and the picture itself."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor

from ancestral.data.dequantize import dequantized
from ancestral.data.folder import read_pictures
from ancestral.runs import Run

__all__ = ["PARTS", "known_part", "levels_of", "picture_of"]


def top(height: int, width: int) -> Tensor:
    """Return the upper half of the rows."""
    return (torch.arange(height) < height // 2)[:, None].expand(height, width)


def left(height: int, width: int) -> Tensor:
    """Return the left half of the columns."""
    return (torch.arange(width) < width // 2).expand(height, width)


def center(height: int, width: int) -> Tensor:
    """Return the middle: half of the rows and half of the columns."""
    rows, cols = (middle(torch.arange(side), side) for side in (height, width))
    return rows[:, None] & cols


def middle(place: Tensor, side: int) -> Tensor:
    """Return the places of the middle half."""
    return (side // 4 <= place) & (place < side - side // 4)


PARTS: dict[str, Callable[[int, int], Tensor]] = {"top": top, "left": left, "center": center}


def known_part(word: str, height: int, width: int) -> Tensor:
    """Return what is known of a picture: a part by its name, or the white pixels of a picture file.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: there is no such part, or the mask has another size.
        OSError: the mask cannot be read.
    """
    if word in PARTS:
        return PARTS[word](height, width)
    path = Path(word)
    if not path.is_file():
        near = get_close_matches(word, PARTS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"--known {word}: no such part or file{hint}; it takes {', '.join(PARTS)} or a mask, a picture file"
        )
    x, levels = read_pictures([path])
    if x.shape[2:] != (height, width):
        raise ValueError(f"--known {word}: the mask is {x.shape[3]}x{x.shape[2]} pixels, it takes {width}x{height}")
    return torch.from_numpy(x[0].max(0) >= levels / 2)


def picture_of(path: Path, run: Run) -> Tensor:
    """Return a picture file as one example of the run (1, C, H, W): its size, its levels or the middles of their cells.

    Raises:
        ValueError: it is in colour and the run is not, or cannot be read faithfully.
        OSError: it cannot be read.
    """
    channels, height, width = run.model.shape
    x = levels_of(path, run, (height, width))
    if x.shape[1] > channels:
        raise ValueError(f"{path} is in colour, the run is of grey pictures: convert it first")
    x, recorded = x.expand(1, channels, height, width), run.config["data"]
    return x if recorded["levels"] else dequantized(x, recorded["dequantized"], torch.tensor(0.5))


def levels_of(path: Path, run: Run, size: tuple[int, int] | None = None) -> Tensor:
    """Return a picture file in the levels of the run, grey (1, 1, H, W) or RGB (1, 3, H, W), perhaps brought to a size.

    Raises:
        ValueError: it cannot be read faithfully.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such picture: {path}")
    recorded = run.config["data"]
    wanted, bits = recorded["levels"] or recorded["dequantized"], recorded["options"].get("bits")
    pixels, levels = read_pictures([path], size)
    x = torch.from_numpy(pixels).long()
    if bits and levels > wanted:  # as the data was read
        return x // (levels // wanted)
    return (x.double() * ((wanted - 1) / (levels - 1))).round().long()
