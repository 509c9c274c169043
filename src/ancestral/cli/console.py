"""Between the commands and a terminal: answers on stdout, messages on stderr, one line for an error.

A command returns an `Answer`, which is printed as text or, with --json, as one JSON object; whatever is printed
meanwhile goes to stderr. A user's mistake is a ValueError or an OSError.
"""

import functools
import inspect
import json as json_format
import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

__all__ = ["Answer", "Debug", "command_of", "note", "progress", "status_of", "timed"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Where something fails, show the traceback.")]
Rows = Sequence[tuple[str, ...]]


class Answer(NamedTuple):
    """What a command found.

    Attributes:
        result: for --json.
        text: for a person: lines, and tables as a list of rows of which the first is the head.
        ok: whether the exit status is 0.
        error: why it could not be written to a file; it is told after the answer.
    """

    result: dict[str, Any]
    text: Sequence[str | Rows]
    ok: bool = True
    error: OSError | None = None

    def written(self, path: Path, write: Callable[[], None]) -> "Answer":
        """Write the answer to a file too, and return it with the path or with the error."""
        try:
            write()
        except OSError as error:
            return self._replace(error=error)
        return self._replace(result={**self.result, "written": str(path)}, text=[*self.text, "", f"written: {path}"])


def command_of(app: typer.Typer) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Return a decorator that makes a function a command of the app, with --json and --debug."""

    def command(function: Callable[..., Answer]) -> Callable[..., Answer]:
        @functools.wraps(function)
        def run(*, json: bool, debug: bool, **arguments: Any) -> int:
            with redirect_stdout(sys.stderr):
                answer = function(**arguments)
            print_json(answer.result) if json else print_text(answer.text)
            if answer.error is not None:
                raise answer.error
            return 0 if answer.ok else 1

        kind, own = inspect.Parameter.KEYWORD_ONLY, list(inspect.signature(function).parameters.values())
        more = [inspect.Parameter(n, kind, default=False, annotation=a) for n, a in (("json", Json), ("debug", Debug))]
        run.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
        app.command()(run)
        return function

    return command


def print_json(result: dict[str, Any]) -> None:
    """Print an object in one line."""
    print(json_format.dumps(plain(result), allow_nan=False))


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: NaN and infinity become null, paths text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def print_text(text: Sequence[str | Rows]) -> None:
    """Print lines and tables; to something else than a terminal without frames and line breaks."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 240, highlight=False, markup=False, emoji=False)
    for part in text:
        if isinstance(part, str):
            console.print(part, soft_wrap=True)
            continue
        head = box.SIMPLE_HEAD if terminal else None
        table = Table(*part[0], box=head, pad_edge=False, show_edge=False, show_header=any(part[0]))
        for row in part[1:]:
            table.add_row(*row)
        console.print(table)


def timed(compute: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and the seconds that it took."""
    begin = time.perf_counter()
    return compute(), time.perf_counter() - begin


def note(line: str) -> None:
    """Print a message to stderr."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress() -> Iterator[Callable[[float], None]]:
    """Show on a terminal's stderr how far something is; give what is told the share that is done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share: bar.update(task, completed=share)


def status_of(app: typer.Typer, words: Sequence[str]) -> int:
    """Run the app on these words and return the exit status: 0 done, 1 it failed, 2 wrong usage."""
    try:
        with messages():
            status = app(list(words) or ["--help"], prog_name="ancestral", standalone_mode=False)
        sys.stdout.flush()
        return status or 0
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        line, status = explained(error)
        note(f"error: {line}")
        return status


def explained(error: Exception) -> tuple[str, int]:
    """Return one line that says what is wrong, and the exit status."""
    line = " ".join(str(error).split())
    if hasattr(error, "format_message"):  # typer's, of wrong usage
        usage = " ".join(error.format_message().split())
        return usage.removeprefix("Invalid value: ").replace("Value error, ", ""), 2
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror, 1
    if isinstance(error, ValueError | OSError):
        return line, 1
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: a smaller model, --batch-size, -n or --limit would do ({line})", 1
    return f"a mistake of Ancestral: {type(error).__name__}: {line} (--debug shows where)", 1


@contextmanager
def messages() -> Iterator[None]:
    """Let what the library has to say appear on stderr, a line each."""
    log, handler = logging.getLogger("ancestral"), logging.StreamHandler(sys.stderr)
    before, handler.formatter = log.level, logging.Formatter("%(message)s")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
