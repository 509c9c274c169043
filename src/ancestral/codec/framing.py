"""Chunks in a file: each begins with a marker, says how long it is, and is sealed by checksums.

All checksums of a file start from its *salt*, a number that is drawn when it is written: a chunk of another file, or
what looks like one inside of a chunk, is never taken for one of its own.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from ancestral.codec.stream import Damaged

__all__ = ["CHUNK", "Chunk", "Frames", "framed", "header", "inflated", "read_header", "shrunk"]

MAGIC, VERSION = b"\x89ANC\r\n\x1a", 1
MARKER = b"\xf7\xa9nc\r\n\x1a\xc5"
HEADER = 2**20  # bytes of a header, at most
CHUNK = 2**28  # bytes of a chunk, at most
FIELDS = struct.Struct("<BIII")  # kind, number, entries before, length
SEAL = struct.Struct("<I")
BLOCK = 2**16  # bytes that are searched at once


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


def read_header(file: BinaryIO) -> dict[str, Any]:
    """Return what the head of a file says.

    Raises:
        ValueError: it is no such file, or of another version; Damaged where its head is.
    """
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
        raise Damaged("its header is damaged, and nothing can be read without it")
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


def shrunk(data: bytes, level: int = 9) -> bytes:
    """Return bytes deflated, without a header of their own."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    return deflate.compress(data) + deflate.flush()


def inflated(data: bytes, limit: int) -> bytes:
    """Return what was deflated, at most so many bytes; Damaged where it is more, or was not."""
    inflate = zlib.decompressobj(-15)
    try:
        found = inflate.decompress(data, limit + 1)
    except zlib.error as error:
        raise Damaged("its deflated part is damaged") from error
    if len(found) > limit or not inflate.eof or inflate.unused_data:
        raise Damaged("its deflated part is not as long as it may be")
    return found
