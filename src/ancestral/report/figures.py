"""Figures of the report: drawn by matplotlib in one small style, as SVG whose ink is the text colour of the page."""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from colorsys import hls_to_rgb
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "bars",
    "bits_picture",
    "curves",
    "example_maps",
    "field_picture",
    "heat",
    "matrix_picture",
    "past_picture",
    "png_of",
    "sound_picture",
    "svg_of",
    "wave_picture",
]

INK = "#1f2328"
BLUE, ORANGE, GREEN, RED, GREY = "#3f7fbf", "#d9822b", "#3f9f6f", "#c8384e", "#9aa4ae"
STYLE: Any = {  # settings of matplotlib
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.3,
    "grid.color": GREY,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
}


P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Make a function draw in our style, and leave matplotlib's own as it is."""

    @functools.wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return in_style


def figure(width: float, height: float, panels: int = 1) -> "tuple[Figure, list[Axes]]":
    """Return a figure of that size in inches and its panels, side by side."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, list(fig.subplots(1, panels, squeeze=False)[0])


@styled
def svg_of(fig: "Figure", name: str) -> str:
    """Return a figure as an <svg> element for a page; its ink is the page's, so that it can be read on dark too.

    The name keeps the ids of several figures on one page apart.
    """
    import matplotlib

    content = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        fig.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    text = content.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


@styled
def png_of(fig: "Figure") -> bytes:
    """Return a figure as the content of a PNG file, on white."""
    content = io.BytesIO()
    fig.savefig(content, format="png", dpi=150, facecolor="white", bbox_inches="tight", pad_inches=0.15)
    return content.getvalue()


@styled
def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str, ylabel: str, whole: bool = False
) -> "Figure":
    """Draw lines by name, each (x, y); the range leaves out the first steep part of a training unless it is whole."""
    fig, (ax,) = figure(7, 3)
    for (name, (x, y)), colour in zip(lines.items(), colours(len(lines)), strict=True):
        ax.plot(x, y, color=colour, label=name, linewidth=1.4, marker="o" if len(x) < 40 else None, markersize=3)
    values = np.concatenate([np.asarray(y, float) for _, y in lines.values()])
    values = values[np.isfinite(values)]
    if whole:
        ax.set_ylim(0, None)
    elif len(values) > 20:
        low, high = values.min(), np.quantile(values, 0.97)
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if len(lines) > 4:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), ncols=-(-len(lines) // 12), fontsize=8)
    else:
        ax.legend()
    return fig


def colours(n: int) -> list[Any]:
    """Return n colours for lines: of more than four a scale from blue to red, as bright on light as on dark."""
    few = [BLUE, ORANGE, GREEN, RED]
    return few[:n] if n <= len(few) else [hls_to_rgb(0.6 * (1 - i / (n - 1)), 0.48, 0.6) for i in range(n)]


@styled
def heat(values: NDArray[Any], label: str) -> "Figure":
    """Draw a map (H, W) in colours from 0 on."""
    fig, (ax,) = figure(4, 3)
    image = ax.imshow(values, cmap="viridis", vmin=0, interpolation="none")
    bare(ax)
    fig.colorbar(image, ax=ax, label=label)
    return fig


@styled
def example_maps(pictures: Sequence[NDArray[Any]], maps: NDArray[Any], label: str) -> "Figure":
    """Draw pictures, and below each its map; pictures (H, W) or (H, W, 3), maps (N, H, W) in one scale of colours."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7, 2.5), layout="constrained")
    axes = fig.subplots(2, len(pictures), squeeze=False)
    top = np.quantile(maps, 0.995)  # one pixel that nobody could foresee would leave all others dark
    for column, shades, values in zip(axes.T, pictures, maps, strict=True):
        column[0].imshow(shades, cmap="gray", interpolation="none")
        image = column[1].imshow(values, cmap="viridis", vmin=0, vmax=top, interpolation="none")
        for ax in column:
            bare(ax)
    fig.colorbar(image, ax=axes, label=label, extend="max" if maps.max() > top else "neither")
    return fig


STROKES = 300  # of a waveform
DECIBELS = 70  # of a spectrogram, below its loudest
FRAMES = 250  # of a spectrogram, about


@styled
def sound_picture(samples: NDArray[Any], rate: int) -> "Figure":
    """Draw the waveform of 16-bit samples (T,), and below it their spectrogram."""
    fig, (top, bottom) = stacked(2.6)
    waveform(top, samples, rate)
    power = decibels(samples, rate)
    extent = (0, len(samples) / rate, 0, rate / 2000)
    bottom.imshow(
        power, cmap="magma", vmin=-DECIBELS, vmax=0, extent=extent, origin="lower", aspect="auto", interpolation="none"
    )
    bottom.grid(False)
    bottom.set_ylabel("kHz")
    bottom.set_xlabel("seconds")
    return fig


@styled
def wave_picture(samples: NDArray[Any], rate: int, known: int, loudest: float) -> "Figure":
    """Draw the waveform of 16-bit samples (T,) up to `loudest` of full scale; the first `known` are a prompt."""
    fig, (ax,) = figure(4.4, 1.5)
    waveform(ax, samples, rate, known)
    ax.set_ylim(-1.05 * loudest, 1.05 * loudest)  # the same for all that go on from one prompt
    ax.axvline(known / rate, color=RED, linestyle="--", linewidth=1)
    ax.set_xlabel("seconds")
    return fig


@styled
def bits_picture(samples: NDArray[Any], rate: int, bits: NDArray[Any], frame: int) -> "Figure":
    """Draw the waveform of 16-bit samples (T,), and below it the mean bits of their frames of so many samples."""
    fig, (top, bottom) = stacked(2.6, 7.0)
    waveform(top, samples, rate)
    edges = np.minimum(np.arange(len(bits) + 1) * frame, len(samples)) / rate
    bottom.stairs(bits, edges, baseline=None, color=ORANGE, linewidth=1.2)
    bottom.set_ylim(0, None)
    bottom.set_ylabel("bits/sample")
    bottom.set_xlabel("seconds")
    return fig


def stacked(height: float, width: float = 4.4) -> "tuple[Figure, Sequence[Axes]]":
    """Return a figure of two panels over the same seconds, the upper one of a waveform."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    top.tick_params(labelbottom=False)
    return fig, (top, bottom)


def waveform(ax: "Axes", samples: NDArray[Any], rate: int, known: int | None = None) -> None:
    """Draw from the lowest to the highest of every few 16-bit samples (T,); those after the first `known` are new."""
    wide = max(1, -(-len(samples) // STROKES))
    starts = np.arange(0, len(samples), wide)
    low, high = (f.reduceat(samples / 2**15, starts) for f in (np.minimum, np.maximum))
    parts = [(starts >= 0, BLUE)] if known is None else [(starts <= known, GREY), (starts >= known, BLUE)]
    for there, colour in parts:
        ax.fill_between(starts[there] / rate, low[there], high[there], color=colour, linewidth=0.6)
    loudest = max(float(np.abs(samples / 2**15).max()), 1e-3)
    ax.set_ylim(-1.05 * loudest, 1.05 * loudest)
    ax.set_xlim(0, len(samples) / rate)


def decibels(samples: NDArray[Any], rate: int) -> NDArray[Any]:
    """Return the power of 16-bit samples (T,) in dB below the loudest, (frequencies, frames): windows of 32 ms."""
    size = max(16, 2 ** round(np.log2(0.032 * rate)))
    hop = max(1, size // 4, len(samples) // FRAMES)
    x = np.pad(samples / 2**15, (size // 2, size))
    windows = np.lib.stride_tricks.sliding_window_view(x, size)[: len(samples) : hop]
    power = np.abs(np.fft.rfft(windows * np.hanning(size))).T ** 2
    out: NDArray[Any] = 10 * np.log10(np.maximum(power, 1e-12) / max(float(power.max()), 1e-12))
    return out


@styled
def bars(names: Sequence[str], values: Sequence[float], xlabel: str) -> "Figure":
    """Draw a horizontal bar for each name."""
    fig, (ax,) = figure(7, 0.8 + 0.2 * len(names))
    ax.barh(range(len(names)), values, color=BLUE, height=0.7)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.set_xlabel(xlabel)
    return fig


def bare(ax: "Axes") -> None:
    """Take ticks, grid and frame from a panel that shows a picture."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)


KINDS = {  # of pixels, as the receptive field sees them
    "the pixel": INK,
    "seen": BLUE,
    "blind spot": RED,
    "beyond reach": "#cdd8e4",
    "later, not seen": "#f1f3f5",
    "later, seen: a leak": ORANGE,
}


@styled
def field_picture(kinds: Tensor, strength: Tensor, at: tuple[int, int]) -> "Figure":
    """Draw which pixels a pixel sees, and how strongly.

    Args:
        kinds: (H, W), an index into `KINDS` for every pixel.
        strength: (H, W) influence on the pixel, 0 where there is none.
        at: row and column of the pixel.
    """
    from matplotlib.colors import ListedColormap, LogNorm
    from matplotlib.patches import Patch

    fig, (left, right) = figure(9, 4, 2)
    left.imshow(kinds.numpy(), cmap=ListedColormap(list(KINDS.values())), vmin=-0.5, vmax=len(KINDS) - 0.5)
    left.set_title(f"what pixel {at} sees")
    there = [(name, colour) for k, (name, colour) in enumerate(KINDS.items()) if bool((kinds == k).any())]
    patches = [Patch(facecolor=colour, edgecolor=GREY, label=name) for name, colour in there]
    left.legend(handles=patches, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3)
    strength = strength.clone()
    strength[at] = 0  # of the earlier channels of an RGB pixel, on the left told apart neither
    top = max(float(strength.max()), 1e-30)
    shown = np.ma.masked_less_equal(strength.numpy() / top, 0)
    image = right.imshow(shown, cmap="viridis", norm=LogNorm(1e-4, 1), interpolation="nearest")
    right.set_title("how strongly")
    right.set_facecolor(KINDS["later, not seen"])
    right.plot(at[1], at[0], marker="s", color=RED, markersize=5)
    fig.colorbar(image, ax=right, label="influence, the strongest = 1", shrink=0.8)
    for ax in (left, right):
        outlined(ax, kinds.shape)
    return fig


def outlined(ax: "Axes", shape: Sequence[int]) -> None:
    """Take the ticks from a picture, and draw thin lines between the pixels where they are few."""
    bare(ax)
    if max(shape) <= 40:
        ax.set_xticks(np.arange(shape[1] + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(shape[0] + 1) - 0.5, minor=True)
        ax.grid(True, which="minor", color="white", linewidth=0.8)
        ax.tick_params(which="minor", length=0)


@styled
def past_picture(strength: Tensor, reach: int, rate: int | None) -> "Figure":
    """Draw the influence of earlier steps on one, on two logarithmic scales.

    Args:
        strength: (N,) of the step before it, of the one before that, and so on; 0 where there is none.
        reach: how many of them are seen.
        rate: steps a second, of recordings; also shown in milliseconds then.
    """
    fig, (ax,) = figure(8, 3.4)
    values = strength.numpy() / max(float(strength.max()), 1e-300)
    steps = np.arange(1, len(values) + 1)
    there = values > 0
    ax.plot(steps[there], values[there], color=BLUE, linewidth=0.8, marker=".", markersize=2)
    ax.axvline(reach, color=RED, linestyle="--", linewidth=1.2, label=f"reach: {reach:,}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    noun = "steps" if rate is None else "samples"
    ax.set_xlabel(f"{noun} before the one that is predicted")
    ax.set_ylabel("influence, the strongest = 1")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    if rate is not None:
        ms = 1000 / rate
        above = ax.secondary_xaxis("top", functions=(lambda n: np.asarray(n) * ms, lambda t: np.asarray(t) / ms))
        above.set_xlabel("milliseconds before")
        above.xaxis.set_major_formatter("{x:g}")
    ax.legend(loc="lower left")
    return fig


@styled
def matrix_picture(strength: Tensor, names: Sequence[str]) -> "Figure":
    """Draw which column of a table depends on which, (D, D) at [t, s], both in the order of the model."""
    from matplotlib.colors import LogNorm

    side = min(9.0, 2.5 + 0.22 * len(names))
    fig, (ax,) = figure(side + 0.8, side)
    top = max(float(strength.max()), 1e-30)
    shown = np.ma.masked_less_equal(strength.numpy() / top, 0)
    image = ax.imshow(shown, cmap="viridis", norm=LogNorm(1e-4, 1), interpolation="nearest")
    ax.set_title("which column (row of this picture) depends on which earlier one")
    bare(ax)
    if len(names) <= 40:
        ax.set_xticks(range(len(names)), names, rotation=90)
        ax.set_yticks(range(len(names)), names)
    fig.colorbar(image, ax=ax, label="influence, the strongest = 1", shrink=0.8)
    return fig
