"""Calls of the command line in this process, and what they did; the fixture `call` makes them."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from ancestral.cli import main


class Done(NamedTuple):
    """What a command line did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on stdout, where there is nothing else."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        assert self.out == ""
        *messages, line = self.err.splitlines()
        assert line.startswith("error: ")
        assert not any(m.startswith(("Traceback", "error: ")) for m in messages)
        return line.removeprefix("error: ")


Call = Callable[..., Done]


def exit_status(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)
