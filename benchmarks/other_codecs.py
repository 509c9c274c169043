"""What other codecs make of pictures, sound and arrays: bits a value of files, headers included."""

import bz2
import importlib.util
import io
import lzma
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

__all__ = ["flac_bytes", "of_arrays", "of_pictures", "of_sounds", "picture_bytes"]

ACROSS = 100  # pictures in a row of the one picture

PICTURE_CODECS: dict[str, dict[str, Any]] = {
    "PNG": {"format": "png", "optimize": True},
    "WebP": {"format": "webp", "lossless": True, "quality": 100, "method": 6},
}
if importlib.util.find_spec("pillow_jxl"):
    PICTURE_CODECS["JPEG XL"] = {"format": "jxl", "lossless": True, "effort": 10}
STREAM_CODECS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    "bzip2": lambda data: bz2.compress(data, 9),
}


def of_arrays(levels: NDArray[Any]) -> dict[str, float]:
    """Return bits a value of all levels as one stream, in the smallest integers or, of two levels, packed."""
    streams = [levels.astype(np.uint8 if levels.max() < 256 else "<u2").tobytes()]
    if levels.max() < 2:
        streams.append(np.packbits(levels.astype(np.uint8)).tobytes())
    return {name: 8 * min(map(len, map(codec, streams))) / levels.size for name, codec in STREAM_CODECS.items()}


def of_pictures(pictures: Sequence[Image.Image], values: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return bits a value of one file for each picture, and of all of them as one picture; `values` of all."""
    whole = one_picture(pictures)
    each = {name: 8 * sum(picture_bytes(picture, name) for picture in pictures) / values for name in PICTURE_CODECS}
    return each, {name: 8 * picture_bytes(whole, name) / values for name in PICTURE_CODECS}


def picture_bytes(picture: Image.Image, codec: str) -> int:
    """Return the size of a picture as a file; as one of 8 bits where the format has no other, if that is smaller.

    Of PNG the rows as they are, too, which Pillow always filters: small pictures are smaller without.
    """
    options = PICTURE_CODECS[codec]
    if options["format"] == "jxl":
        import pillow_jxl  # noqa: F401 (it makes the format known)
    sizes = [unfiltered(picture)] if options["format"] == "png" and picture.mode != "1" else []
    for mode in {picture.mode, "L" if picture.mode == "1" else picture.mode}:
        if mode == "1" and options["format"] != "png":
            continue
        file = io.BytesIO()
        picture.convert(mode).save(file, **options)
        sizes.append(file.tell())
    return min(sizes)


def unfiltered(picture: Image.Image) -> int:
    """Return the size of a PNG file whose rows have no filter: the deflated rows, and what every file has."""
    values = np.asarray(picture).reshape(picture.height, -1)
    rows = np.pad(values, ((0, 0), (1, 0))).tobytes()  # each begins with the number of its filter
    signature, chunk, head = 8, 12, 13
    return len(zlib.compress(rows, 9)) + signature + 3 * chunk + head


def one_picture(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return all pictures beside and below each other."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // ACROSS)
    whole = Image.new(pictures[0].mode, (min(ACROSS, len(pictures)) * width, rows * height))
    for i, picture in enumerate(pictures):
        whole.paste(picture, (i % ACROSS * width, i // ACROSS * height))
    return whole


def of_sounds(recordings: Sequence[NDArray[np.int16]], rate: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return bits a sample of one FLAC file for each recording (T,), and of all end to end."""
    values, each = sum(map(len, recordings)), sum(flac_bytes(samples, rate) for samples in recordings)
    return {"FLAC": 8 * each / values}, {"FLAC": 8 * flac_bytes(np.concatenate(recordings), rate) / values}


def flac_bytes(samples: NDArray[np.int16], rate: int) -> int:
    """Return the size of a FLAC file of int16 samples, at the highest compression."""
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format="flac", subtype="PCM_16", compression_level=1.0)
    return len(content.getvalue())
