"""Chunks of examples, and of files that are stored as they are: between what they hold and the bytes of it."""

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ancestral.codec.framing import CHUNK, inflated, shrunk
from ancestral.codec.listing import NAME, Part, known_of, labels_of, listed, parts_of
from ancestral.codec.numbers import Taken, numbers
from ancestral.codec.payload import pack, unpack
from ancestral.codec.stream import Damaged
from ancestral.conditioning import OneHot
from ancestral.model import Model

__all__ = ["Coded", "WrongValues", "code", "decode", "plain", "plain_from"]

CHECK = struct.Struct("<I")


class WrongValues(Damaged):
    """The bytes are those that were written, and they do not decode to the values that were."""


class Coded(NamedTuple):
    """A chunk of examples as bytes, and how many of these are what.

    Attributes:
        body: all bytes.
        listing: bytes of names, labels and shapes.
        given: bytes of values beside the stream.
        stream: bytes of the coder.
        initial_bits: that the stream holds for initial bits which were taken.
    """

    body: bytes
    listing: int
    given: int
    stream: int
    initial_bits: int


def code(model: Model, parts: Sequence[Part], x: Tensor, level: int) -> Coded:
    """Code tiles.

    Args:
        model: see `payload.coder_of`.
        parts: what they are of.
        x: (N, *shape) int64.
        level: of zlib, for names.
    """
    listing = listed(parts)
    small = shrunk(listing, level)
    payload = pack(model, x, labels_of(parts), known_of(parts, model.shape))
    head = CHECK.pack(check_of(listing, x)) + numbers([len(small)]) + small
    body = head + numbers([len(payload.given)]) + payload.given + payload.stream
    return Coded(body, len(small), len(payload.given), len(payload.stream), payload.initial_bits)


def decode(model: Model, body: bytes, examples: int) -> tuple[list[Part], Tensor]:
    """Return what was coded: parts, and their tiles (N, *shape).

    Args:
        model: see `payload.coder_of`.
        body: of the chunk.
        examples: tiles of a chunk, at most.

    Raises:
        Damaged: nothing was coded to this. WrongValues: the values are not those whose checksum it has.
    """
    taken = Taken(body)
    (check,) = CHECK.unpack(taken.raw(CHECK.size))
    listing = inflated(taken.raw(taken.number(CHUNK)), 64 + examples * (NAME + 64))
    parts = parts_of(listing, model.shape, examples)
    given = taken.raw(taken.number(CHUNK))
    labels = labels_of(parts)
    if isinstance(model.conditioner, OneHot) and bool((labels >= model.conditioner.classes).any()):
        raise Damaged(f"it holds classes beyond {model.conditioner.classes - 1}")
    known = known_of(parts, model.shape) if parts else torch.zeros(0, *model.shape, dtype=torch.bool)
    x = torch.zeros(known.shape, dtype=torch.long)
    try:
        x = unpack(model, given, taken.rest(), x, labels, known)
    except Damaged as error:
        raise WrongValues(str(error)) from error
    if check != check_of(listing, x):
        raise WrongValues("its values are not those that were written")
    return parts, x


def check_of(listing: bytes, x: Tensor) -> int:
    """Return the checksum of tiles and of what they are."""
    return zlib.crc32(x.cpu().int().contiguous().numpy().astype("<i4").tobytes(), zlib.crc32(listing))


def plain(name: str, data: bytes, level: int) -> tuple[bytes, int]:
    """Return a file that is stored as it is, and how many bytes its name takes."""
    told = name.encode("utf-8", "surrogateescape")
    check = CHECK.pack(zlib.crc32(data, zlib.crc32(told)))
    return check + numbers([len(data), len(told)]) + told + shrunk(data, level), len(told)


def plain_from(body: bytes) -> tuple[str, bytes]:
    """Return the name and the bytes of a file that was stored as it is."""
    taken = Taken(body)
    (check,) = CHECK.unpack(taken.raw(CHECK.size))
    size, length = taken.number(CHUNK), taken.number(NAME)
    told = taken.raw(length)
    data = inflated(taken.rest(), size)
    if len(data) != size or check != zlib.crc32(data, zlib.crc32(told)):
        raise Damaged("its bytes are not those that were written")
    return told.decode("utf-8", "surrogateescape"), data
