"""What a compressed file is made of."""

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Totals"]


@dataclass
class Totals:
    """What was written: bytes of each part, and how many of what there were.

    Attributes:
        header: bytes, with those of its copy.
        streams: bytes of the coder.
        given: bytes of values that are stored beside it.
        names: bytes of names, labels and shapes.
        plain: bytes of files that are stored as they are.
        framing: bytes of markers, lengths and checksums.
        entries: how many.
        files: stored as they are.
        chunks: of both.
        values: of the entries, without padding.
        initial_bits: that the streams hold for the initial bits of bits back.
        levels: bytes of chunks whose levels are stored without the model.
        fallbacks: why chunks are stored so, and how many of each reason.
        seconds: that coding took, and decoding again.
    """

    header: int = 0
    streams: int = 0
    given: int = 0
    names: int = 0
    plain: int = 0
    framing: int = 0
    entries: int = 0
    files: int = 0
    chunks: int = 0
    values: int = 0
    initial_bits: int = 0
    levels: int = 0
    fallbacks: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def bytes(self) -> int:
        """Of all parts."""
        return self.header + self.streams + self.given + self.names + self.plain + self.levels + self.framing

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {**asdict(self), "bytes": self.bytes}
