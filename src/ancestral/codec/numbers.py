"""Whole numbers as bytes: of 7 bits each, the lowest first, with the eighth set where more follow (LEB128)."""

from collections.abc import Iterable

from torch import Tensor

from ancestral.codec.stream import Damaged

__all__ = ["Taken", "numbers", "table"]


def numbers(values: Iterable[int]) -> bytes:
    """Return numbers of at least 0 as bytes.

    >>> numbers([5, 300]).hex()
    '05ac02'
    """
    found = bytearray()
    for value in values:
        while value > 127:
            found.append(value & 127 | 128)
            value >>= 7
        found.append(value)
    return bytes(found)


def table(values: Tensor) -> bytes:
    """Return rows (R, N) of numbers, the first of which ascends: how many there are, its steps, the other rows."""
    first, *others = values.tolist() if values.dim() == 2 else [values.tolist()]
    steps = [value - before for value, before in zip(first, [0, *first], strict=False)]
    return numbers([len(first), *steps, *(value for row in others for value in row)])


class Taken:
    """Bytes that are taken from the front, from a file that may claim anything.

    Args:
        data: all of them.

    Every method raises Damaged where there are fewer, or a number is above its limit.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def raw(self, count: int) -> bytes:
        """Return so many bytes."""
        if count > len(self.data) - self.at:
            raise Damaged("it is shorter than it says")
        self.at += count
        return self.data[self.at - count : self.at]

    def rest(self) -> bytes:
        """Return what is left."""
        return self.raw(len(self.data) - self.at)

    def number(self, limit: int) -> int:
        """Return a number of at most the limit."""
        value = shift = 0
        while True:
            byte = self.raw(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if value > limit or shift > limit.bit_length() + 7:
                raise Damaged(f"it holds a number above {limit}")
            if byte < 128:
                return value

    def numbers(self, count: int, limit: int) -> list[int]:
        """Return several numbers of at most the limit."""
        if count > len(self.data) - self.at:
            raise Damaged("it is shorter than it says")
        return [self.number(limit) for _ in range(count)]

    def ascending(self, below: int) -> list[int]:
        """Return the first row of a `table`, of different numbers below a limit."""
        steps, found, last = self.numbers(self.number(below), below), [], -1
        for i, step in enumerate(steps):
            value = step if i == 0 else last + step
            if not last < value < below:
                raise Damaged("the places of its given values do not ascend")
            found.append(value)
            last = value
        return found

    def end(self) -> None:
        """Raise Damaged where something is left."""
        if self.at < len(self.data):
            raise Damaged("it is longer than it says")
