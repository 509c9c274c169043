"""Chunks of examples, and of files that are stored as they are: between what they hold and the bytes of it."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ancestral.codec.coding import levels_of
from ancestral.codec.framing import CHUNK, inflated, shrunk
from ancestral.codec.listing import NAME, Part, known_of, labels_of, listed, parts_of
from ancestral.codec.numbers import Taken, numbers
from ancestral.codec.payload import pack, unpack
from ancestral.codec.stream import Damaged
from ancestral.conditioning import OneHot
from ancestral.model import Model

__all__ = ["Coded", "WrongValues", "code", "decode", "plain", "plain_from", "stored", "stored_from"]

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
        levels: bytes of levels that are stored without the model.
    """

    body: bytes
    listing: int
    given: int = 0
    stream: int = 0
    initial_bits: int = 0
    levels: int = 0


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
    check, listing, parts = described(model, taken, examples)
    given = taken.raw(taken.number(CHUNK))
    x, known = blank(parts, model.shape)
    try:
        x = unpack(model, given, taken.rest(), x, labels_of(parts), known)
    except Damaged as error:
        raise WrongValues(str(error)) from error
    if check != check_of(listing, x):
        raise WrongValues("its values are not those that were written")
    return parts, x


def stored(model: Model, parts: Sequence[Part], x: Tensor, level: int) -> Coded:
    """Return tiles as bytes without what the model says of them; see `code`."""
    listing = listed(parts)
    small = shrunk(listing, level)
    values = x[~known_of(parts, model.shape)].numpy().astype(kind_of(model))
    levels = shrunk(values.tobytes(), level)
    body = CHECK.pack(check_of(listing, x)) + numbers([len(small)]) + small + levels
    return Coded(body, len(small), levels=len(levels))


def stored_from(model: Model, body: bytes, examples: int) -> tuple[list[Part], Tensor]:
    """Return what was stored; see `decode`."""
    taken, kind = Taken(body), kind_of(model)
    check, listing, parts = described(model, taken, examples)
    x, known = blank(parts, model.shape)
    size = int((~known).sum())
    data = inflated(taken.rest(), size * kind.itemsize)
    if len(data) < size * kind.itemsize:
        raise Damaged("it holds fewer values than it says")
    x[~known] = torch.from_numpy(np.frombuffer(data, kind).astype(np.int64))
    if check != check_of(listing, x) or bool((x >= levels_of(model)).any()):
        raise Damaged("its values are not those that were written")
    return parts, x


def kind_of(model: Model) -> np.dtype[Any]:
    """Return the smallest unsigned integers that hold all levels, little-endian."""
    return np.min_scalar_type(levels_of(model) - 1).newbyteorder("<")


def described(model: Model, taken: Taken, examples: int) -> tuple[int, bytes, list[Part]]:
    """Return how a chunk of examples begins: the checksum of its values, its listing, and what that says."""
    (check,) = CHECK.unpack(taken.raw(CHECK.size))
    listing = inflated(taken.raw(taken.number(CHUNK)), 64 + examples * (NAME + 64))
    parts = parts_of(listing, model.shape, examples)
    if isinstance(model.conditioner, OneHot) and bool((labels_of(parts) >= model.conditioner.classes).any()):
        raise Damaged(f"it holds classes beyond {model.conditioner.classes - 1}")
    return check, listing, parts


def blank(parts: Sequence[Part], size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return tiles of zeros (N, *size) int64, and which of their values are padding."""
    known = known_of(parts, size) if parts else torch.zeros(0, *size, dtype=torch.bool)
    return torch.zeros(known.shape, dtype=torch.long), known


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
