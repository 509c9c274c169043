"""Some pictures, where the model finds their bits, and how many bytes that makes beside other codecs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ancestral.report.figures import bare, png_of, styled
from other_codecs import PICTURE_CODECS, picture_bytes


@styled
def strip(pictures: Sequence[Image.Image], bits: NDArray[Any]) -> bytes:
    """Return a PNG: pictures, below each the bits (N, H, W) of its pixels, and the bytes of each codec."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(1.15 * len(pictures) + 1.2, 3.2), layout="constrained")
    axes = fig.subplots(2, len(pictures), squeeze=False)
    top = np.quantile(bits, 0.995)  # one pixel that nobody could foresee would leave all others dark
    for column, picture, values in zip(axes.T, pictures, bits, strict=True):
        column[0].imshow(picture.convert("L" if picture.mode == "1" else picture.mode), cmap="gray")
        image = column[1].imshow(values, cmap="viridis", vmin=0, vmax=top, interpolation="none")
        sizes = [
            f"{values.sum() / 8:.0f} bytes",
            *(f"{name} {picture_bytes(picture, name)}" for name in PICTURE_CODECS),
        ]
        column[1].set_xlabel("\n".join(sizes), fontsize=8)
        for ax in column:
            bare(ax)
    fig.colorbar(image, ax=axes, label="bits of a pixel", extend="max" if bits.max() > top else "neither")
    return png_of(fig)
