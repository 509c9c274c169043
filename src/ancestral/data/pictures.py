"""One picture file to levels (C, H, W), refusing what Pillow would change without a word."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .entries import UnreadableError
from .parts import Found, compact

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SUFFIXES", "Picture", "Size", "read_picture", "resized"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".pgm", ".ppm")

Size = int | tuple[int, int]
Array = NDArray[Any]

MODES = {"1": 2, "L": 256, "P": 256, "RGB": 256, "I;16": 65536, "I;16L": 65536, "I;16B": 65536, "I": 65536}


class Picture(NamedTuple):
    """Levels (C, H, W) in [0, `levels`), with C = 1 (grey) or 3 (RGB)."""

    x: Array
    levels: int


def read_picture(path: Path, size: Size | None = None) -> Picture:
    """Read a picture: 1-bit, 8-bit or 16-bit grey, palette, or 8-bit RGB; turned upright as its EXIF data says.

    Args:
        path: of one of `SUFFIXES`.
        size: the short side is brought to `size` and the middle is kept, or (H, W) is covered in the same way.

    Raises:
        UnreadableError: the file is damaged or truncated.
        ValueError: the picture would have to be changed to be read: transparency, 16-bit colour, several frames.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            problem = _problem(opened, path)
            upright = None if problem else ImageOps.exif_transpose(opened)
    except Exception as error:  # damaged files raise a dozen kinds, SyntaxError and struct.error among them
        raise UnreadableError(f"{path} cannot be read as a picture ({_reason(error)})") from error
    if problem or upright is None:
        raise ValueError(f"{path} {problem}")
    return _picture(upright, size, path)


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no known picture format"
    return " ".join(str(error).split()) or type(error).__name__


def _problem(image: "Image.Image", path: Path) -> str | None:
    """Return why a picture must not be read, and what would do."""
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # MPO: phones add a second view to a JPEG
        return f"holds {image.n_frames} frames: save each as a picture of its own"  # type: ignore[attr-defined]
    if _deep_colour(image, path):
        return "has 16-bit colour, which would be cut to 8 bits: save it as 8-bit RGB, or as integers in an .npz"
    if image.has_transparency_data or image.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        return "has transparency: flatten it onto a background first"
    if image.mode not in MODES:
        return f"is a picture of mode {image.mode}: convert it to grey or RGB first"
    return None


def _deep_colour(image: "Image.Image", path: Path) -> bool:
    """Say whether several channels have more than 8 bits each: Pillow keeps the top 8 and tells nobody."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]  # BitsPerSample
        return isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8
    with open(path, "rb") as file:
        head = file.read(4096)
    if image.format == "PNG":
        return head[24] == 16 and head[25] in (2, 4, 6)  # IHDR: bit depth; colour type RGB, grey + alpha, RGBA
    netpbm = re.match(rb"P[36](?:\s+(?:#[^\n]*\n\s*)*)(\d+)\s+(\d+)\s+(\d+)", head)
    return netpbm is not None and int(netpbm[3]) > 255


def _picture(image: "Image.Image", size: Size | None, path: Path) -> Picture:
    levels = MODES[image.mode]
    if image.mode == "P":
        image = _unpaletted(image)
    elif levels == 2:
        image = image.convert("L")
    elif levels == 65536:
        image = image.convert("I")
    x = np.array(image if size is None else _fit(image, size))  # a copy: torch wants it writable
    if x.min() < 0 or x.max() > 65535:
        raise ValueError(f"{path} has values beyond 16 bits: save it as 16-bit grey, or as floats in an .npz")
    x = x >= 128 if levels == 2 else x
    return Picture(compact(x[None] if x.ndim == 2 else x.transpose(2, 0, 1), levels), levels)


def _unpaletted(image: "Image.Image") -> "Image.Image":
    """Return a palette picture as grey where all its colours are, else as RGB."""
    colour = image.convert("RGB")
    r, g, b = np.asarray(colour).transpose(2, 0, 1)
    return colour.getchannel(0) if np.array_equal(r, g) and np.array_equal(g, b) else colour


def _fit(image: "Image.Image", size: Size) -> "Image.Image":
    """Bring the short side to `size` and keep the middle; every pixel is the mean of the area that it covers."""
    from PIL import Image

    h, w = (size, size) if isinstance(size, int) else size
    scale = min(image.width / w, image.height / h)  # source pixels per pixel
    left, top = (image.width - w * scale) / 2, (image.height - h * scale) / 2
    box = (left, top, left + w * scale, top + h * scale)
    return image.resize((w, h), Image.Resampling.BOX, box=box)


def resized(found: Found, size: Size | None) -> Found:
    """Bring pictures that are arrays (N, C, H, W) to another size, as `read_picture` does with files.

    Files of 8 bits may come out one level away from this: Pillow rounds them twice, after rows and after columns.

    Raises:
        ValueError: the examples are no pictures.
    """
    if size is None:
        return found
    if len(found.shape) != 3:
        raise ValueError(f"size={size} is for pictures, got examples of shape {found.shape}: leave it out")
    parts = {name: part._replace(x=_resized(part.x, size, found.levels)) for name, part in found.parts.items()}
    return replace(found, parts=parts)


def _resized(x: Array, size: Size, levels: int | None) -> Array:
    from PIL import Image

    planes = x.reshape(-1, *x.shape[2:]).astype(np.float32)
    out = np.stack([np.asarray(_fit(Image.fromarray(plane), size)) for plane in planes])
    out = out.reshape(*x.shape[:2], *out.shape[1:])
    return out if levels is None else compact(np.rint(out), levels)
