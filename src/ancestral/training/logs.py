"""What a run says while it goes on: a progress bar, `metrics.jsonl`, TensorBoard events."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ancestral.conditioning import OneHot
from ancestral.data import Data, Recordings
from ancestral.data.restore import Pictures, Restore
from ancestral.files import read_records, replacing
from ancestral.model import Model

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = "metrics.jsonl"
POINTS = 200  # lines of training figures in a run

Record = dict[str, Any]


class Logs:
    """The bar on stderr and the two files; where stderr is no terminal, a line at each validation.

    Args:
        folder: of the run; None for a process that keeps silent.
        data: what the run is trained on; discrete data is told in bits/dim, continuous data in nats.
        steps: of the whole run.
        per_epoch: steps of an epoch.
        done: steps done before; later lines of `metrics.jsonl`, from a session that was lost, are dropped.
        on_progress: is told every record too.
    """

    def __init__(
        self,
        folder: Path | None,
        data: Data,
        steps: int,
        per_epoch: int,
        done: int = 0,
        on_progress: Callable[[Record], None] | None = None,
    ) -> None:
        self.folder, self.steps, self.per_epoch, self.on_progress = folder, steps, per_epoch, on_progress
        self.variables = None if data.discrete is None else math.prod(data.shape)
        self.recorded = isinstance(data.split("train"), Recordings)
        self.unit = "nats" if self.variables is None else "bits/sample" if self.recorded else "bits/dim"
        self.examples = "images" if len(data.shape) == 3 else "samples" if self.recorded else "examples"
        self.every = math.ceil(steps / POINTS)
        self.events = None if folder is None else events(folder, done)
        self.console = Console(stderr=True)
        self.bar = Progress(
            BarColumn(bar_width=10),  # it all fits into a line of 80
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            disable=folder is None or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=steps, completed=done, figures="")
        self.nats, self.seconds, self.values, self.seen = 0.0, 0.0, 0, 0  # of the steps since the last record
        self.train = self.valid = self.speed = ""

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        if self.events is not None:
            with contextlib.suppress(OSError):  # of a full disk, which the checkpoints have told about
                self.events.close()

    def step(self, step: int, nats: float, examples: int, values: int, seconds: float, lr: float) -> None:
        """Take in a finished step, which weighs as many values as its nats are of."""
        self.nats, self.seconds = self.nats + nats * values, self.seconds + seconds
        self.values, self.seen = self.values + values, self.seen + examples
        if step % self.every == 0 or step == self.steps:
            mean, speed = self.nats / self.values, self.seen / self.seconds
            shown = self.values / self.seconds if self.recorded else speed
            self.train, self.speed = self.shown(mean), f", {shown:,.0f} {self.examples}/s"
            self.record(step, "train", nats=mean, lr=lr, examples_per_second=speed)
            self.nats, self.seconds, self.values, self.seen = 0.0, 0.0, 0, 0
        self.bar.update(self.task, completed=step, figures=self.train + self.valid + self.speed)

    def validation(self, step: int, nats: float, best: bool, kl: list[float] | None = None) -> None:
        """Take in a validation, with the nats of each level of latents where there are any."""
        self.valid = f" (valid {self.shown(nats).split()[0]})"
        self.record(step, "valid", nats=nats, best=best, **({} if kl is None else {"kl": kl}))
        if not self.console.is_terminal:
            self.say(f"step {step}/{self.steps}: {self.train}{self.valid}{self.speed}{', the best' if best else ''}")

    def skipped(self, step: int, why: str) -> None:
        """Take in a step that was skipped."""
        self.say(f"step {step} was skipped: {why}")
        self.record(step, "train", skipped=why)

    def say(self, text: str) -> None:
        """Print a line on stderr, above the bar."""
        if self.folder is not None:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def record(self, step: int, split: str, **values: Any) -> None:
        """Append a line to `metrics.jsonl`, and the numbers of it to the events."""
        if self.folder is None or self.events is None:
            return
        if "nats" in values and self.variables is not None:
            values["bits_per_dim"] = values["nats"] / (self.variables * math.log(2))
        finite = {name: value if plain(value) else None for name, value in values.items()}
        record = {"step": step, "epoch": (step - 1) // self.per_epoch, "split": split, **finite}
        append(self.folder / METRICS, record)
        for name, value in scalars(finite):
            self.events.add_scalar(f"{split}/{name}", value, step)
        if self.on_progress is not None:
            self.on_progress(record)

    def pictures(self, step: int, restore: Restore, x: Tensor) -> None:
        """Write samples as a picture."""
        if self.folder is not None:
            path = self.folder / "samples" / f"step-{step:06d}.png"
            path.parent.mkdir(exist_ok=True)
            restore.save(x, path)

    def shown(self, nats: float) -> str:
        """Return a likelihood in the unit that is shown."""
        return f"{nats if self.variables is None else nats / (self.variables * math.log(2)):.3f} {self.unit}"


def drawable(model: Model, data: Data) -> bool:
    """Return whether samples can be drawn without being told a context, and seen."""
    unaided = model.conditioner is None or isinstance(model.conditioner, OneHot)
    return isinstance(data.restore, Pictures) and unaided


def drawn(model: Model, n: int, seed: int) -> Tensor:
    """Return samples, of all classes in turn where there are classes."""
    context = None
    if isinstance(model.conditioner, OneHot):
        context = torch.arange(n, device=model.device) % model.conditioner.classes
    return model.sample(n, context, generator=torch.Generator().manual_seed(seed))


def events(folder: Path, done: int) -> "SummaryWriter":
    """Return what writes TensorBoard events, after dropping the lines of `metrics.jsonl` of steps later than `done`."""
    from torch.utils.tensorboard import SummaryWriter

    cut(folder / METRICS, done)
    return SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)


def append(path: Path, record: Record) -> None:
    """Append a line to a file."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}; the last checkpoint is intact") from error


def plain(value: Any) -> bool:
    """Return whether JSON knows a value: NaN and infinity it does not."""
    return all(map(plain, value)) if isinstance(value, list) else not isinstance(value, float) or math.isfinite(value)


def scalars(values: Record) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record by name; of a list every one: kl_1, kl_2, ..."""
    for name, value in values.items():
        if isinstance(value, list):
            yield from ((f"{name}_{level}", number) for level, number in enumerate(value, 1))
        elif isinstance(value, float):
            yield name, value


def cut(path: Path, done: int) -> None:
    """Drop the lines of later steps than `done`, and a last line that was cut off."""
    if not path.exists():
        return
    kept = [json.dumps(record) + "\n" for record in read_records(path) if record["step"] <= done]
    with replacing(path) as part:
        part.write_text("".join(kept), "utf-8")
