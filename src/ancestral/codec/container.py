"""Compressed files: a header, chunks of examples and of files that are stored as they are, and an end.

A chunk holds up to `examples` tiles of the model's shape; an entry of any other size is cut into tiles. See
docs/format.md.
"""

import logging
import secrets
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, Self

import torch
from torch import Tensor

from ancestral.codec import chunks
from ancestral.codec.fingerprint import arithmetic, differences, fingerprint
from ancestral.codec.framing import CHUNK, END, Chunk, Frames, copied, framed, header, read_header
from ancestral.codec.listing import LABEL, NAME, Entry, Part, known_of
from ancestral.codec.payload import coder_of, likely_class
from ancestral.codec.stream import Damaged
from ancestral.codec.tiles import cut, joined, tiles_of
from ancestral.codec.totals import Totals
from ancestral.conditioning import OneHot
from ancestral.likelihoods import check_count
from ancestral.model import Model
from ancestral.models.latent import LatentVariables

__all__ = ["Entry", "Lost", "Reader", "Totals", "Writer"]

EXAMPLES, STORED, PLAIN = b"evp"  # kinds of chunks
# Tiles of a chunk, and values of all of them, at most: a claim of them is memory of the walk that decodes it. Tiles of
# any size may be as many as the last.
MOST, VALUES, ANYWAY = 2**12, 2**20, 64
ENTRIES = 2**32 - 1  # of a file, at most

log = logging.getLogger("ancestral")


class Lost(NamedTuple):
    """What damage took.

    Attributes:
        chunk: the first that is missing.
        reason: one line.
        entries: how many entries, or files stored as they are, are known to be lost with it.
    """

    chunk: int
    reason: str
    entries: int


class Writer:
    """Writes examples to a file, a chunk at a time; a context manager, which closes it unless something is raised.

    Args:
        file: binary, written from where it is.
        model: what compresses; it is copied.
        info: JSON of the caller, that `Reader.info` gives back.
        portable: codes in float64, so that the file can be decoded on any machine; else in the model's own
            arithmetic, which a decoder must have too.
        examples: tiles of a chunk: more of them cost fewer bytes, and more memory, and more is lost with one.
        verify: decodes every chunk before it is written; one that does not come back is stored without the model.
        level: of zlib, for names and files that are stored as they are.
        salt: of the checksums; drawn where none is given.

    Raises:
        ValueError: the model cannot compress; `info` is no JSON; `examples` are too many.
    """

    def __init__(
        self,
        file: BinaryIO,
        model: Model,
        *,
        info: dict[str, Any] | None = None,
        portable: bool = True,
        examples: int = 64,
        verify: bool = True,
        level: int = 9,
        salt: int | None = None,
    ) -> None:
        self.model, self.file, self.verify, self.level = coder_of(model, portable), file, verify, level
        self.examples = check_examples(examples, self.model)
        self.salt = secrets.randbits(32) if salt is None else salt
        self.parts: list[Part] = []
        self.tiles: list[Tensor] = []
        self.complete = 0  # entries before the next chunk
        self.closed = False
        values = {"model": fingerprint(model), "portable": portable, "examples": examples, "salt": self.salt}
        if not portable:
            values["arithmetic"] = arithmetic(self.model, examples)
        self.head = header({**values, "info": {} if info is None else info})
        self.totals = Totals(header=file.write(self.head))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and not self.closed:
            self.close()

    def add(self, entry: Entry, levels: Tensor) -> None:
        """Add an entry of any size.

        Args:
            entry: what it is.
            levels: of its shape.

        Raises:
            ValueError: the model cannot represent it: nothing was added.
        """
        started = time.perf_counter()
        x = cut(self.checked(entry, levels), self.model.shape)
        chosen = None
        if isinstance(self.model.conditioner, OneHot) and entry.label is None:
            known = Part(entry, None, 0, len(x))
            chosen = likely_class(self.model, x, known_of([known], self.model.shape), self.examples)
        begin = 0
        while begin < len(x):
            end = min(len(x), begin + self.examples - sum(map(len, self.tiles)))
            self.parts.append(Part(entry, chosen, begin, end))
            self.tiles.append(x[begin:end])
            begin = end
            if sum(map(len, self.tiles)) == self.examples:
                self.flush(complete=end == len(x))
        self.totals.entries += 1
        self.totals.values += levels.numel()
        self.totals.seconds += time.perf_counter() - started

    def checked(self, entry: Entry, levels: Tensor) -> Tensor:
        """Return levels as int64 on the CPU, or raise ValueError where they do not fit."""
        self.check_room(entry.name)
        shape, size = tuple(levels.shape), self.model.shape
        if shape != tuple(entry.shape):
            raise ValueError(f"{said(entry.name)}levels must have the shape of the entry, {entry.shape}, got {shape}")
        if isinstance(self.model, LatentVariables) and shape != size:
            raise ValueError(f"{said(entry.name)}a model with latents takes examples of {size} only, got {shape}")
        if len(shape) != len(size) or (len(size) > 1 and shape[0] != size[0]) or not levels.numel():
            wanted = f"{len(size)} axes" + (f", {size[0]} channels" if len(size) > 1 else "")
            raise ValueError(f"{said(entry.name)}an example must have {wanted} and at least one value, got {shape}")
        self.check_label(entry)
        return self.model.check(levels.detach()).cpu().long()

    def check_label(self, entry: Entry) -> None:
        """Raise ValueError where a label is not one."""
        classes = self.model.conditioner.classes if isinstance(self.model.conditioner, OneHot) else LABEL + 1
        if entry.label is not None and not 0 <= entry.label < classes:
            raise ValueError(f"{said(entry.name)}label must be from 0 to {classes - 1}, got {entry.label}")

    def check_room(self, name: str) -> None:
        """Raise ValueError where no more can be added, or a name cannot be stored."""
        if self.closed:
            raise ValueError("the file is closed: nothing can be added")
        if self.totals.entries + self.totals.files >= ENTRIES:
            raise ValueError(f"a file can hold {ENTRIES} entries, it has as many")
        if "\0" in name or len(name.encode("utf-8", "surrogateescape")) > NAME:
            raise ValueError(f"a name must have at most {NAME} bytes and no NUL, got {name[:40]!r}")

    def add_plain(self, name: str, data: bytes) -> None:
        """Add a file that is stored as it is, deflated.

        Raises:
            ValueError: it is too large.
        """
        self.check_room(name)
        body, told = chunks.plain(name, data, self.level)
        if max(len(data), len(body)) > CHUNK:
            raise ValueError(f"{said(name)}a file that is stored as it is must have at most {CHUNK} bytes")
        self.flush(complete=True)
        self.write(PLAIN, body)
        self.complete += 1
        self.totals.files += 1
        self.totals.names += told
        self.totals.plain += len(body) - told

    def flush(self, complete: bool) -> None:
        """Write the chunk of what was added; its last entry may go on in the next."""
        if not self.parts:
            return
        parts, x = self.parts, torch.cat(self.tiles)
        self.parts, self.tiles, self.closed = [], [], True  # until it is written
        try:
            kind, coded = EXAMPLES, self.coded(parts, x)
        except (ValueError, ArithmeticError) as error:
            kind, coded = STORED, self.stored(parts, x, error)
        self.write(kind, coded.body)
        self.closed = False
        self.complete += len(parts) - (not complete)
        totals = self.totals
        totals.framing += len(coded.body) - coded.listing - coded.given - coded.stream - coded.levels
        totals.names += coded.listing
        totals.given += coded.given
        totals.streams += coded.stream
        totals.levels += coded.levels
        totals.initial_bits += coded.initial_bits

    def coded(self, parts: list[Part], x: Tensor) -> chunks.Coded:
        """Return a chunk of examples as the model codes it; ValueError or ArithmeticError where it would not do."""
        coded = chunks.code(self.model, parts, x, self.level)
        if len(coded.body) > CHUNK:
            raise ValueError(f"it has more than {CHUNK} bytes")
        if self.verify:
            found, y = chunks.decode(self.model, coded.body, self.examples)
            if found != parts or not torch.equal(x, y):
                raise ValueError("it decodes to something else")
        return coded

    def stored(self, parts: list[Part], x: Tensor, error: Exception) -> chunks.Coded:
        """Return a chunk of examples without the model, which failed, and note why."""
        stored = chunks.stored(self.model, parts, x, self.level)
        if len(stored.body) > CHUNK:
            raise ValueError(
                f"a chunk must have at most {CHUNK} bytes, this one of {len(x)} examples has more"
            ) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        self.totals.fallbacks[reason] = self.totals.fallbacks.get(reason, 0) + 1
        return stored

    def write(self, kind: int, body: bytes) -> None:
        """Write a chunk."""
        written = self.file.write(framed(Chunk(kind, self.totals.chunks, self.complete, body), self.salt))
        self.totals.framing += written - len(body)
        self.totals.chunks += kind != END

    def close(self) -> Totals:
        """Write what is left, and the end; the file itself stays open. Return what was written."""
        if not self.closed:
            started = time.perf_counter()
            self.flush(complete=True)
            copy = copied(self.head, self.totals.bytes)
            self.write(END, copy)
            self.totals.header += len(copy)
            self.closed = True
            self.totals.seconds += time.perf_counter() - started
        return self.totals


def said(name: str) -> str:
    """Return how a message begins that is about a name."""
    return f"{name if name.isprintable() else repr(name)}: " if name else ""


def check_examples(examples: int, model: Model) -> int:
    """Return how many tiles a chunk has, or raise ValueError where they are too many."""
    size = torch.Size(model.shape).numel()
    most = max(ANYWAY, min(MOST, VALUES // size))
    if check_count("examples", examples, 1) > most:
        raise ValueError(f"examples must be at most {most} for examples of {size} values, got {examples}")
    return examples


class Reader:
    """Reads a compressed file: iterates over entries and their levels, names and bytes of stored files, and losses.

    Args:
        file: binary, at the beginning of what was written; it can be sought in.
        model: the one that compressed it; it is copied.

    Attributes:
        info: what the writer was told.
        portable: whether it was coded in float64.
        repaired: whether the header is damaged, and was read from its copy at the end of the file.

    Raises:
        ValueError: it is no compressed file, or of another version or model. Damaged: its header is, and the copy at
            the end. While iterating, ValueError: it is not portable, and the arithmetic here differs and gives other
            values.
    """

    def __init__(self, file: BinaryIO, model: Model) -> None:
        values, self.repaired = read_header(file)
        self.portable, self.info = values.get("portable"), values.get("info")
        wanted, salt = values.get("model"), values.get("salt")
        if not (isinstance(self.portable, bool) and isinstance(self.info, dict) and isinstance(wanted, str)):
            raise Damaged("its header is damaged: it lacks what must be there")
        if not (type(salt) is int and 0 <= salt < 2**32):
            raise Damaged("its header is damaged: its salt is none")
        if wanted != (own := fingerprint(model)):
            raise ValueError(f"it was compressed with another model ({wanted[:12]}) than this one ({own[:12]})")
        self.model = coder_of(model, self.portable)
        self.examples = check_examples(values.get("examples"), self.model)  # type: ignore[arg-type]
        self.differs = ""
        if not self.portable:
            written = values.get("arithmetic")
            here = arithmetic(self.model, self.examples)
            self.differs = differences(written if isinstance(written, dict) else {}, here)
        self.frames = Frames(file, salt)
        if self.repaired:
            log.warning(
                "the header of the file is damaged, and was read from its copy at the end: nothing is lost by that"
            )

    def __iter__(self) -> Iterator[tuple[Entry, Tensor] | tuple[str, bytes] | Lost]:
        return Reading(self).all()


class Reading:
    """One pass over a file.

    Attributes:
        next: the number of the chunk that comes next.
        counted: entries that were complete, or are told lost.
        trouble: why the last chunk is lost, or nothing.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader, self.model = reader, reader.model
        self.next = self.counted = 0
        self.trouble: tuple[int, str] | None = None
        self.open: list[tuple[Part, Tensor]] = []  # of an entry that goes on

    def all(self) -> Iterator[tuple[Entry, Tensor] | tuple[str, bytes] | Lost]:
        """Yield everything."""
        ended = False
        for chunk in self.reader.frames:
            if ended:
                break
            if chunk.number < self.next:
                continue  # it came before
            yield from self.lost_before(chunk)
            self.next, ended = chunk.number + 1, chunk.kind == END
            try:
                found = self.found_in(chunk)
            except Damaged as error:
                self.trouble = chunk.number, f"chunk {chunk.number}: {error}"
                continue
            yield from found
        if not ended:
            yield self.lost_after()
        elif self.reader.frames.end < self.reader.frames.size:
            yield Lost(self.next, "something follows the end of the file, and is not read", 0)

    def lost_after(self) -> Lost:
        """Return what is known of what is missing at the end."""
        first, why = self.trouble or (self.next, "")
        reason = f"{why}; " if why else ""
        reason += (
            f"the file is cut off, or its end damaged: after {self.next} chunks there is neither another nor an end"
        )
        return Lost(first, reason, len(self.open[:1]))

    def lost_before(self, chunk: Chunk) -> Iterator[Lost]:
        """Yield what is missing before a chunk."""
        first = self.trouble[0] if self.trouble else self.next
        if self.trouble or chunk.number > self.next:
            reason = self.trouble[1] if self.trouble and chunk.number == self.next else missing(first, chunk.number)
            self.trouble, self.open = None, []
            most = (chunk.number - first) * self.reader.examples
            entries = min(max(0, chunk.before - self.counted), most)
            self.counted += entries
            yield Lost(first, reason, entries)

    def found_in(self, chunk: Chunk) -> list[tuple[Entry, Tensor] | tuple[str, bytes] | Lost]:
        """Return what a chunk completes."""
        if chunk.kind == END:
            return []
        if chunk.kind == PLAIN:
            name, data = chunks.plain_from(chunk.body)
            self.counted += 1
            return [(name, data)]
        parts, tiles = self.decoded(chunk)
        rows = tiles.split([part.end - part.begin for part in parts])
        return [each for part, x in zip(parts, rows, strict=True) for each in self.completed(chunk, part, x)]

    def decoded(self, chunk: Chunk) -> tuple[list[Part], Tensor]:
        """Return what is in a chunk of examples; Damaged where it is none."""
        if chunk.kind == STORED:
            return chunks.stored_from(self.model, chunk.body, self.reader.examples)
        if chunk.kind != EXAMPLES:
            raise Damaged(f"it is of an unknown kind, {chunk.kind}")
        try:
            return chunks.decode(self.model, chunk.body, self.reader.examples)
        except (MemoryError, RuntimeError) as error:  # the second by torch
            if isinstance(error, RuntimeError) and "alloc" not in str(error):
                raise
            examples = self.reader.examples
            raise ValueError(f"the memory here does not hold what decodes a chunk of {examples} examples") from error
        except chunks.WrongValues as error:
            if not self.reader.differs:
                raise
            raise ValueError(
                f"the file is not portable, and cannot be decoded here: it was written with {self.reader.differs}"
            ) from error

    def completed(self, chunk: Chunk, part: Part, x: Tensor) -> Iterator[tuple[Entry, Tensor] | Lost]:
        """Yield an entry where a part is its last."""
        if part.begin != (self.open[-1][0].end if self.open else 0) or any(p.entry != part.entry for p, _ in self.open):
            self.open = []
        self.open.append((part, x))
        if part.end == tiles_of(part.entry.shape, self.model.shape):
            whole = self.open[0][0].begin == 0
            tiles, self.open = torch.cat([x for _, x in self.open]), []
            self.counted += 1
            reason = f"{said(part.entry.name)}an entry that begins in a lost chunk"
            yield (part.entry, joined(tiles, part.entry.shape)) if whole else Lost(chunk.number, reason, 1)


def missing(first: int, after: int) -> str:
    """Return in words which chunks are not there."""
    which = f"chunk {first} is" if after == first + 1 else f"chunks {first} to {after - 1} are"
    return f"{which} damaged or missing"
