"""Chunks in a file: each begins with a marker, says how long it is, and is sealed by checksums.

All checksums of a file start from its *salt*, a number that is drawn when it is written: a chunk of another file, or
what looks like one inside of a chunk, is never taken for one of its own.

The last chunk holds a copy of the header, which a reader turns to where the header is damaged.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from ancestral.codec.numbers import Taken, numbers
from ancestral.codec.stream import Damaged

__all__ = ["CHUNK", "END", "Chunk", "Frames", "copied", "framed", "header", "inflated", "read_header", "shrunk"]

MAGIC, VERSION = b"\x89ANC\r\n\x1a", 1
MARKER = b"\xf7\xa9nc\r\n\x1a\xc5"
HEADER = 2**20  # bytes of a header, at most
CHUNK = 2**28  # bytes of a chunk, at most
FIELDS = struct.Struct("<BIII")  # kind, number, entries before, length
SEAL = struct.Struct("<I")
BLOCK = 2**16  # bytes that are searched at once
END = b"z"[0]  # the kind of the last chunk
USUAL = (  # what headers have in common: their copies need not repeat it
    b'"shape":[1,"dtype":"|u1","levels":,"own":,"label":"<i8"}]}}{"model":"","portable":true,"examples":64,"salt":,'
    b'"info":{"sets":[{"file":".npz","key":"test","n":'
)


class Chunk(NamedTuple):
    """A chunk whose checksums are right.

    Attributes:
        kind: what it holds.
        number: of the chunk, from 0.
        before: entries that are complete before it.
        body: what it holds.
    """

    kind: int
    number: int
    before: int
    body: bytes


def header(values: Mapping[str, Any]) -> bytes:
    """Return the head of a file, or raise ValueError where it is too long or no JSON."""
    try:
        text = json.dumps(values, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(f"info must be JSON to be stored, got what is not: {error}") from error
    if len(text) > HEADER:
        raise ValueError(f"info must have at most {HEADER} bytes as JSON, with the rest of the header {len(text)}")
    head = MAGIC + bytes([VERSION]) + SEAL.pack(len(text)) + text
    return head + SEAL.pack(zlib.crc32(head))


def copied(head: bytes, place: int) -> bytes:
    """Return what the last chunk holds: how far it is from the head of the file, and a copy of what that says."""
    text = head[len(MAGIC) + 1 + SEAL.size : -SEAL.size]
    return numbers([place]) + shrunk(bytes([VERSION]) + text, known=USUAL)


def read_header(file: BinaryIO) -> tuple[dict[str, Any], bool]:
    """Return what the head of a file says, and whether that was read from the copy at the end.

    Args:
        file: at its beginning, and left in front of its chunks, or at the beginning again.

    Raises:
        ValueError: it is no such file, or of another version; Damaged where its head and the copy are.
    """
    begin = file.tell()
    try:
        return read_head(file), False
    except ValueError:
        copy = read_copy(file, begin)
        file.seek(begin)
        if copy is None:
            raise
        return copy, True


def read_head(file: BinaryIO) -> dict[str, Any]:
    """Return what the head of a file says; see `read_header`."""
    head = file.read(len(MAGIC) + 1 + SEAL.size)
    if head[: len(MAGIC)] != MAGIC:
        raise ValueError("it is no compressed file of ancestral: it does not begin like one")
    if len(head) < len(MAGIC) + 1 + SEAL.size:
        raise Damaged("it is cut off in its header")
    if head[len(MAGIC)] != VERSION:
        raise ValueError(f"it is of version {head[len(MAGIC)]} of the format; this library reads version {VERSION}")
    (length,) = SEAL.unpack(head[-SEAL.size :])
    text = file.read(min(length, HEADER))
    if len(text) < length or file.read(SEAL.size) != SEAL.pack(zlib.crc32(head + text)):
        raise Damaged("its header is damaged, and there is no copy of it at the end: nothing can be read")
    return parsed(text)


def read_copy(file: BinaryIO, begin: int) -> dict[str, Any] | None:
    """Return what the copy of the header says, if there is one: in a last chunk that ends where the file does.

    It is that of a file that begins at `begin`: it says how far away that is.
    """
    start = max(begin, file.seek(0, 2) - HEADER - BLOCK)
    file.seek(start)
    tail = file.read()
    if (at := tail.rfind(MARKER)) < 0:
        return None
    try:
        taken = Taken(tail[at + len(MARKER) + FIELDS.size + SEAL.size : -SEAL.size])
        place, copy = taken.number(2**62), inflated(taken.rest(), 1 + HEADER, known=USUAL)
        values = parsed(copy[1:])
    except Damaged:
        return None
    salt = values.get("salt")
    if copy[0] != VERSION or place != start + at - begin or not (type(salt) is int and 0 <= salt < 2**32):
        return None
    chunk, length = Frames(file, salt).read(start + at)
    whole = chunk is not None and chunk.kind == END and at + length == len(tail)
    return values if whole else None


def parsed(text: bytes) -> dict[str, Any]:
    """Return the JSON of a header; Damaged where it is no object."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged("its header is damaged: it is no JSON") from error
    if not isinstance(values, dict):
        raise Damaged("its header is damaged: it is no JSON object")
    return values


def framed(chunk: Chunk, salt: int) -> bytes:
    """Return a chunk as it is written."""
    fields = FIELDS.pack(chunk.kind, chunk.number, chunk.before, len(chunk.body))
    seal = zlib.crc32(fields, salt)
    return MARKER + fields + SEAL.pack(seal) + chunk.body + SEAL.pack(zlib.crc32(chunk.body, seal))


class Frames:
    """The chunks of a file, those that are whole.

    Args:
        file: at the end of its header; it can be sought in.
        salt: of its checksums.

    Attributes:
        size: of the file, in bytes.
        end: where the last chunk that was read ends.
    """

    def __init__(self, file: BinaryIO, salt: int) -> None:
        self.file, self.salt = file, salt
        self.begin = self.end = file.tell()
        self.size = file.seek(0, 2)

    def __iter__(self) -> Iterator[Chunk]:
        self.block = -BLOCK, b""  # what was read last, and from where
        at, patience = self.begin, 2 * self.size  # bytes of damaged chunks that are searched for others
        while (found := self.find(at)) is not None:
            chunk, length = self.read(found)
            at = found + length if chunk is not None or patience < length else found + 1
            patience -= 0 if chunk is not None else length
            if chunk is not None:
                self.end = at
                yield chunk

    def find(self, at: int) -> int | None:
        """Return where the next marker is."""
        while at < self.size:
            begin, block = self.block
            if not begin <= at < begin + BLOCK:
                self.file.seek(at)
                begin, block = self.block = at, self.file.read(BLOCK + len(MARKER) - 1)
            if (place := block.find(MARKER, at - begin)) >= 0:
                return begin + place
            at = begin + BLOCK
        return None

    def read(self, at: int) -> tuple[Chunk | None, int]:
        """Return the chunk at a place, if it is one, and how many bytes it took to know."""
        self.file.seek(at + len(MARKER))
        head = self.file.read(FIELDS.size + SEAL.size)
        fields, seal = head[: FIELDS.size], head[FIELDS.size :]
        start = len(MARKER) + len(head)
        if len(seal) < SEAL.size or seal != SEAL.pack(zlib.crc32(fields, self.salt)):
            return None, 1
        kind, number, before, length = FIELDS.unpack(fields)
        if length > min(CHUNK, self.size - at - start - SEAL.size):
            return None, 1
        body = self.file.read(length)
        if self.file.read(SEAL.size) != SEAL.pack(zlib.crc32(body, *SEAL.unpack(seal))):
            return None, start + length + SEAL.size
        return Chunk(kind, number, before, body), start + length + SEAL.size


def shrunk(data: bytes, level: int = 9, known: bytes = b"") -> bytes:
    """Return bytes deflated, without a header of their own; whoever inflates them knows some that are like them."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15, zdict=known)
    return deflate.compress(data) + deflate.flush()


def inflated(data: bytes, limit: int, known: bytes = b"") -> bytes:
    """Return what was deflated, at most so many bytes; Damaged where it is more, or was not."""
    inflate = zlib.decompressobj(-15, zdict=known)
    try:
        found = inflate.decompress(data, limit + 1)
    except zlib.error as error:
        raise Damaged("its deflated part is damaged") from error
    if len(found) > limit or not inflate.eof or inflate.unused_data:
        raise Damaged("its deflated part is not as long as it may be")
    return found
