"""`compress` and `decompress`: what is read, coded and written, and what both say of it."""

import io
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from ancestral.cli.console import Answer, command_of, note, progress
from ancestral.cli.options import Device, RunFolder, at_least_one

__all__ = ["add_to"]

SPLIT = typer.Option("--split", metavar="PART", help="Of one SOURCE as the model sees it: train, valid or test.")
MOST_PIXELS = 2**24  # of pictures that are compared with PNG and WebP
SMALL, WEBP_SIDE = 2**10, 16383  # pixels of a picture that WebP may take its time for, and of a side at most
METADATA = "the metadata of files (dates, EXIF, tags) is not kept"


def add_to(app: typer.Typer) -> None:
    """Add both commands to an app."""
    command = command_of(app)
    command(compress)
    command(decompress)


def compress(
    run: RunFolder,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders, or one SOURCE of data.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE.anc", help="The file to write.")] = None,
    split: Annotated[str | None, SPLIT] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Say how many bits it would be, write nothing.")] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Decode all that is written.")] = True,
    native: Annotated[
        bool,
        typer.Option("--native", help="In the model's float32: only a machine with the same arithmetic decodes it."),
    ] = False,
    examples: Annotated[int, at_least_one("In a chunk, which is what one damaged byte costs.")] = 64,
    device: Device = "auto",
) -> Answer:
    """Compress pictures, recordings, arrays or tables without loss, by the probabilities of a trained model.

    Whatever the model cannot represent exactly is stored as it is. The same run is needed to decompress.
    """
    from ancestral.codec.inputs import gathered
    from ancestral.runs import open_run

    if out is None and not estimate:
        raise typer.BadParameter("--out FILE.anc is missing (or --estimate)")
    if out is not None and out.suffix.lower() != ".anc":
        raise ValueError(f"--out {out}: what is compressed is written as .anc")
    opened = open_run(run, device)
    takes = taken_by(opened)
    found = of_source(opened, inputs, split) or gathered(list(map(Path, inputs)), takes, out or Path())
    how = {"portable": not native, "verify": verify, "examples": examples}
    work = Work(opened, takes, found, estimate)
    begun = time.perf_counter()
    if estimate:
        return work.estimated(begun, examples)
    assert out is not None
    return work.written(out, how, begun)


def taken_by(run: Any) -> Any:
    """Return what a run takes, or raise ValueError where nothing of its kind can be compressed."""
    from ancestral.codec.representing import Takes

    if run.given is not None:
        raise ValueError(
            f"{run.folder}: the model is given {run.given.words}, which a file does not hold; train without"
        )
    try:
        return Takes.of(run.model, run.restore, run.classes)
    except ValueError as error:
        raise ValueError(f"{run.folder}: {error}") from error


def of_source(run: Any, inputs: Sequence[str], split: str | None) -> Any:
    """Return the examples of a built-in source, or of a part of any; None where the inputs are files.

    Raises:
        ValueError: several sources, a source that does not fit, or recordings.
    """
    from ancestral.codec.inputs import Examples, Gathered
    from ancestral.data import SOURCES
    from ancestral.data.dataset import SPLITS, Split

    built_in = [name for name, _ in SOURCES if name.islower()]
    if split is None and not (inputs[0] in built_in and not Path(inputs[0]).exists()):
        return None
    if len(inputs) > 1 or split not in (None, *SPLITS):
        what = f"--split {split}: there are {', '.join(SPLITS)}" if len(inputs) == 1 else f"{inputs[0]}: one source"
        raise ValueError(f"{what}; give files and folders without --split, or one SOURCE")
    data, found = run.data(inputs[0]), Gathered()
    for name in SPLITS if split is None else [split]:
        part = data.split(name)
        if not isinstance(part, Split):
            raise ValueError(f"--split {split}: {inputs[0]} holds recordings; give the files without --split")
        about = {"file": "examples.npz", "key": name, "n": len(part), "shape": list(data.shape)}
        about |= {"dtype": part.x.numpy().dtype.str, "levels": data.levels, "own": data.levels}
        labels = part.labels if run.classes is not None else None
        found.examples += [Examples(part.x, labels, about | ({} if labels is None else {"label": "<i8"}))]
        found.size += part.x.nbytes
    return found


@dataclass
class Work:
    """What is compressed, and what it came to.

    Attributes:
        run: that compresses.
        takes: what its model takes.
        found: the inputs.
        estimate: whether bits are only computed.
        kept: reasons why files are stored as they are, and how many.
        values: of the examples that are coded.
        other: bytes of the same pictures in other formats, until there are too many pixels; None of a format that
            cannot hold one of them.
        aside: seconds that this comparison took.
    """

    run: Any
    takes: Any
    found: Any
    estimate: bool
    kept: dict[str, int] = field(default_factory=dict)
    values: int = 0
    coded: int = 0
    other: Mapping[str, int | None] | None = field(default_factory=lambda: {"png": 0, "webp": 0})
    pixels: int = 0
    aside: float = 0.0

    def items(self, told: Callable[[float], None]) -> Iterator[Any]:
        """Yield all that is compressed, and tell the share that is done."""
        from ancestral.codec.inputs import Item, Kept, items_of

        rows = sum(len(each.x) for each in self.found.examples)
        total, done = rows + len(self.found.files) + len(self.found.kept), itertools.count(1)
        for each in self.found.examples:
            for i, x in enumerate(each.x):
                yield self.seen(Item("", None if each.labels is None else int(each.labels[i]), x))
                told(next(done) / total)
        for each in items_of(self.found, self.takes):
            if isinstance(each, Kept):
                self.kept[each.reason] = self.kept.get(each.reason, 0) + 1
            yield each if isinstance(each, Kept) else self.seen(each)
            told(next(done) / total)

    def seen(self, item: Any) -> Any:
        """Return an item whose values are counted, and compared with other formats where it is a picture."""
        from ancestral.data.restore import Pictures

        self.values, self.coded = self.values + item.x.numel(), self.coded + 1
        if not isinstance(self.takes.restore, Pictures):
            self.other = None
        if self.other is not None:
            self.pixels += item.x[0].numel()
            begun = time.perf_counter()
            self.other = None if self.pixels > MOST_PIXELS else added(self.other, item, self.takes)
            self.aside += time.perf_counter() - begun
        return item

    def written(self, out: Path, how: dict[str, Any], begun: float) -> Answer:
        """Write the file."""
        from ancestral.codec import Entry, Writer
        from ancestral.codec.inputs import Kept
        from ancestral.files import replacing

        info = {"sets": [each.about for each in self.found.examples]}
        with progress() as told, replacing(out) as part, open(part, "wb") as file:
            with Writer(file, self.run.model, info=info, **how) as writer:
                for item in self.items(told):
                    if isinstance(item, Kept):
                        writer.add_plain(item.name, item.data)
                    else:
                        writer.add(Entry(item.name, item.label, tuple(item.x.shape)), item.x)
            totals = writer.totals
        took, bits = time.perf_counter() - begun - self.aside, 8 * (totals.bytes - totals.plain)
        result = self.common(totals.bytes, took, bits) | {"written": str(out), "parts": totals.to_json()}
        compared = self.compared(totals.bytes - totals.plain)
        lines = [f"{self.what()} in {pace(self.found.size, took)}: {out}"]
        lines += [
            f"{self.found.size:,} bytes -> {totals.bytes:,} bytes{ratio(self.found.size, totals.bytes)}{compared}"
        ]
        if self.values:
            alone = 8 * (totals.streams + totals.given + totals.levels) / self.values
            lines.append(f"{bits / self.values:.4f} bits/dim, {alone:.4f} without names and overhead")
        lines += [parts_line(totals), *without_model(totals)]
        return Answer(result, [*lines, *self.notes()])

    def estimated(self, begun: float, examples: int) -> Answer:
        """Say how many bits it would be, by the parallel pass."""
        import zlib

        from ancestral.codec.estimating import bits_of
        from ancestral.codec.inputs import Kept

        kept, plain = [], 0
        with progress() as told:

            def coded() -> Iterator[Any]:
                nonlocal plain
                for item in self.items(told):
                    if isinstance(item, Kept):
                        plain += len(zlib.compress(item.data, 9))
                        kept.append(item)
                    else:
                        yield item

            bits = bits_of(self.run.model, coded(), examples)
        took, size = time.perf_counter() - begun - self.aside, round(bits / 8) + plain
        exact = "" if self.run.model.exact else " at most (a bound)"
        lines = [f"{self.what()}, estimated in {pace(self.found.size, took)}"]
        lines += [f"{self.found.size:,} bytes -> about {size:,} bytes{exact}{ratio(self.found.size, size)}"]
        lines[-1] += self.compared(round(bits / 8)) + "; names and checksums are added to that"
        lines += [f"{bits / self.values:.4f} bits/dim"] if self.values else []
        result = self.common(size, took, bits) | {"estimate": True, "exact": self.run.model.exact, "bits": bits}
        return Answer(result, [*lines, *self.notes()])

    def common(self, size: int, took: float, bits: float) -> dict[str, Any]:
        """Return what --json says in any case."""
        return {
            "bytes_in": self.found.size,
            "bytes_out": size,
            "ratio": self.found.size / max(size, 1),
            "other_formats": self.other or None,
            "entries": self.coded,
            "kept_as_they_are": self.kept,
            "left_out": self.found.left_out,
            "values": self.values,
            "bits_per_dim": bits / self.values if self.values else None,
            "seconds": took,
            "bytes_per_second": self.found.size / max(took, 1e-9),
        }

    def what(self) -> str:
        """Return what was compressed, in words."""
        from ancestral.report.words import counted

        kept = sum(self.kept.values())
        words = [counted(self.coded, "example")] if self.coded or not kept else []
        words += [f"{counted(kept, 'file')} as {'it is' if kept == 1 else 'they are'}"] if kept else []
        return " and ".join(words)

    def compared(self, size: int) -> str:
        """Return how other formats compare with the bytes of the same pictures."""
        if not self.other or not self.other["png"]:
            return ""
        names = {"png": "PNG", "webp": "lossless WebP"}
        return "; of the same pixels " + ", ".join(
            f"{names[kind]} {other:,} bytes ({other / max(size, 1):.2f} x)"
            for kind, other in self.other.items()
            if other is not None
        )

    def notes(self) -> list[str]:
        """Return what a user should know besides."""
        lines = [f"stored as it is, {count} x: {reason}" for reason, count in self.kept.items()]
        if self.found.left_out:
            lines.append(f"left out: {self.found.left_out} hidden files and links")
        if self.pixels > MOST_PIXELS:
            lines.append(f"not compared with PNG and WebP: more than {MOST_PIXELS:,} pixels")
        if self.other and self.other["webp"] is None:
            lines.append(
                f"not compared with WebP: it has no pictures of 16 bits, nor of more than {WEBP_SIDE:,} pixels a side"
            )
        return [*lines, *([METADATA] if self.found.files else [])]


def pace(size: int, took: float) -> str:
    """Return in words how long bytes took."""
    return f"{took:.2g} s ({size / max(took, 1e-9):,.0f} bytes/s)"


def ratio(before: int, after: int) -> str:
    """Return how many times smaller or larger it is, in brackets."""
    if after > before:
        return f" ({after / max(before, 1):.2f} x larger)"
    return f" ({before / max(after, 1):.2f} x smaller)"


def parts_line(totals: Any) -> str:
    """Return what the bytes of a file are for."""
    overhead = totals.header + totals.framing
    words = [
        f"streams {totals.streams + totals.given:,}",
        f"names and labels {totals.names:,}",
        f"as they are {totals.plain:,}",
    ]
    words += [f"levels without the model {totals.levels:,}"] if totals.levels else []
    words += [f"overhead {overhead:,}"]
    initial = f"; {totals.initial_bits:,} of the bits are initial bits" if totals.initial_bits else ""
    return f"bytes: {', '.join(words)}{initial}"


def without_model(totals: Any) -> list[str]:
    """Return what is said of chunks that the model failed at."""
    from ancestral.report.words import counted

    if not totals.fallbacks:
        return []
    failed = counted(sum(totals.fallbacks.values()), "chunk")
    why = ", ".join(f"{count} x {reason}" for reason, count in totals.fallbacks.items())
    return [f"{failed} of {totals.chunks} stored without the model, in {totals.levels:,} bytes: {why}"]


def added(other: Mapping[str, int | None], item: Any, takes: Any) -> dict[str, int | None]:
    """Return bytes of pictures in other formats with those of one more."""
    from ancestral.codec.representing import image_of
    from ancestral.data.restore import Pictures

    kind = item.name.partition("/")[0]
    image = image_of(kind, item.x, takes.levels) if kind else Pictures(takes.levels)(item.x[None])[0]
    more = {"png": size_as(image, "png", optimize=True), "webp": webp_size(image)}
    return {name: plus(size, more[name]) for name, size in other.items()}


def plus(size: int | None, more: int | None) -> int | None:
    """Return a sum; None where one of both is."""
    return None if size is None or more is None else size + more


def webp_size(image: Any) -> int | None:
    """Return how many bytes a picture has as lossless WebP; None where that cannot hold it."""
    if image.mode.startswith("I") or max(image.size) > WEBP_SIDE:
        return None
    method = 6 if image.width * image.height <= SMALL else 5  # the last one takes 25 times as long for 1 % less
    return size_as(image.convert("RGB"), "webp", lossless=True, quality=100, method=method)


def size_as(image: Any, kind: str, **how: Any) -> int:
    """Return how many bytes a picture has in a format."""
    content = io.BytesIO()
    image.save(content, kind, **how)
    return content.tell()


def decompress(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(metavar="FILE.anc", help="What `ancestral compress` wrote.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder; of one table or array .csv, .npz, .npy.")],
    device: Device = "auto",
) -> Answer:
    """Bring back what was compressed: pictures as PNG, recordings as WAV, arrays, tables, other files as they were.

    Where a part of the file is damaged, the rest is written, and the exit status is 1.
    """
    from ancestral.codec.extracting import check_out, new_folder
    from ancestral.runs import open_run

    single = check_out(out)
    with open(file, "rb") as source:
        opened = open_run(run, device)
        begun = time.perf_counter()
        if single:
            extracted, reader, losses = extracted_to(None, opened, source, file, out)
        else:
            with new_folder(out) as folder:
                extracted, reader, losses = extracted_to(folder, opened, source, file, out)
    took = time.perf_counter() - begun
    result = {
        "written": str(out),
        "files": extracted.files,
        "bytes_in": file.stat().st_size,
        "bytes_out": extracted.size,
        "seconds": took,
        "bytes_per_second": extracted.size / max(took, 1e-9),
        "repaired": reader.repaired,
        "lost": [loss._asdict() for loss in losses],
    }
    from ancestral.report.words import counted

    lost = ", without what is lost" if losses else ""
    line = f"{counted(extracted.files, 'file')} in {pace(extracted.size, took)}{lost}: {out}"
    return Answer(result, [line], ok=not losses)


def extracted_to(folder: Path | None, run: Any, source: Any, file: Path, out: Path) -> tuple[Any, Any, list[Any]]:
    """Write all that a file holds, and return what was written, the reader and what is lost."""
    from ancestral.codec import Entry, Lost, Reader
    from ancestral.codec.extracting import Extraction

    losses, size = [], max(1, file.stat().st_size)
    try:
        reader = Reader(source, run.model)
        extraction = Extraction(folder, run.restore, (reader.info or {}).get("sets", []))
        with progress() as told:
            for found in reader:
                if isinstance(found, Lost):
                    losses.append(found)
                    extraction.missing(found.entries)
                    note(f"lost: {found.reason}" + (f" ({found.entries} entries)" if found.entries else ""))
                elif isinstance(found[0], Entry):
                    extraction.entry(*found)
                else:
                    extraction.plain(*found)
                told(min(1.0, source.tell() / size))
        extraction.finish(out)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return extraction, reader, losses
