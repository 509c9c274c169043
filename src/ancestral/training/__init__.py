"""Training: a loop over batches, with what a run needs around it.

Everything random is a function of (seed, step, rank), and a run folder remembers all that changes, so that a run that
is stopped and resumed ends with the same weights. accelerate gives the device, the precision and the processes.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from ancestral.checkpoint import CONFIG, WEIGHTS, describe, versions, write_json, write_tensors
from ancestral.data import Data, Recordings
from ancestral.data.dataset import Examples
from ancestral.evaluation import check_fit
from ancestral.model import Model
from ancestral.objectives import Loss, Objective, check_loss, nll, takes_windows
from ancestral.training.launching import Interruption, accelerator_for
from ancestral.training.logs import Logs, Record, drawable, drawn
from ancestral.training.pacing import PLANNED, Clock, check_limits, default_batch, default_epochs, steps_to_time, timed
from ancestral.training.resuming import (
    State,
    check_same,
    cloned,
    earlier,
    fingerprint,
    identity,
    read_state,
    running,
    write_state,
)
from ancestral.training.schedule import DRAWS, VALIDATIONS, Batches, Schedule, mixed, usual_decay
from ancestral.training.validating import Validation, validated, validation

__all__ = ["Summary", "train"]

LR = 3e-3
BETAS = (0.9, 0.999)
CLIP = 1.0  # norm of the gradient of nats per variable, which is about half of this in healthy training
PATIENCE = 5  # validations without a better one, of 20
MOST_SKIPS, MOST_RETURNS = 5, 3  # steps skipped in a row before a return, returns before giving up
DRAWN = 16  # samples of a picture
TYPICAL = 100  # steps that the timed ones are compared with
INTERVAL = 60  # seconds between two checkpoints


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        steps: done, over all sessions.
        epochs: these are of the training examples.
        seconds: they took.
        parameters: of the model.
        best_step: whose averaged weights are the result; the last one where there was no validation.
        valid_nats: of those weights; None where there was no validation. Of recordings: of as many values as a whole
            window has.
        valid_bits_per_dim: the same in bits a variable; None of continuous values.
        interrupted: whether the user ended it; it can be resumed.
        stopped_early: whether it ended because validation got worse, or time ran out.
        skipped: steps skipped because the loss or a gradient was not finite.
    """

    steps: int
    epochs: float
    seconds: float
    parameters: int
    best_step: int
    valid_nats: float | None
    valid_bits_per_dim: float | None
    interrupted: bool
    stopped_early: bool
    skipped: int


def train(
    model: Model,
    data: Data,
    out: str | Path,
    *,
    loss: Loss = nll,
    epochs: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    precision: int | str | None = None,
    device: str = "auto",
    compiled: bool = False,
    seed: int | None = None,
    resume: bool = False,
    config: dict[str, Any] | None = None,
    on_progress: Callable[[Record], None] | None = None,
) -> Summary:
    """Train a model on the train part, and keep the averaged weights that are best on the valid part.

    They are in the model and in `out/model.safetensors` at the end. Started in several processes (`accelerate
    launch`, `torchrun`), these share every batch and give what one gives, to rounding.

    Args:
        model: changed in place.
        data: with the model's shape, levels and labels.
        out: the run folder, which must not hold a run unless it is resumed.
        loss: of each example; a run with another one than the default is resumed with the same one given again. For
            recordings it takes `counted`, as `nll` does: every counted value weighs the same, however windows are cut.
        epochs: at most so many; training stops when validation has got worse for a quarter of them.
        steps: just so many batches.
        minutes: the speed is measured, then the number of steps is fixed. Without any of the three limits: epochs,
            as many as suit the size of the data.
        batch_size: over all processes; by default between 16 and 64, the more the more data there is, but of windows
            about 8,192 new samples, and 2 windows at least.
        lr: the highest rate of Adam, before it falls to zero; 0.003 by default.
        weight_decay: of AdamW; by default so much that what a batch did is forgotten in about 10 epochs.
        precision: 32, the default, or "bf16" for mixed precision.
        device: "auto", "cpu" or "cuda".
        compiled: makes a step's forward and backward pass compiled graphs, which takes a minute or more at first; a
            run may be resumed without it, or with it, to rounding (and with other draws of dropout).
        seed: of order, noise and dropout, 0 by default; the weights are those that the model has.
        resume: go on with the run in `out`, exactly; what is not given is as it was.
        config: what else `config.json` shall record, JSON.
        on_progress: is told every record of `metrics.jsonl`.

    Raises:
        ValueError: an argument is wrong or does not fit the data or the run; or training diverges again and again.
        OSError: something cannot be written; the last checkpoint is intact.
    """
    clock = Clock()
    limits = {"epochs": epochs, "steps": steps, "minutes": minutes}
    sizes = {"batch_size": batch_size, "lr": lr, "weight_decay": weight_decay}
    check_limits(limits, sizes, seed or 0)
    before = earlier(Path(out), resume)
    data = data.reaching(model.reach)
    check_fit(model, data, "train", *(["valid"] if len(data.split("valid")) else []))
    if isinstance(data.split("train"), Recordings) and not takes_windows(loss):
        raise ValueError(f"loss={loss!r} cannot be told what is new in a window: give it an argument counted=None")
    check_loss(loss, model)
    asked: dict[str, Any] = {**limits, **sizes, "precision": precision and str(precision), "seed": seed}
    training = {name: value for name, value in asked.items() if value is not None}
    training["loss"] = getattr(loss, "__qualname__", str(loss))
    described = {"model": describe(model), "data": {**data.describe(), "fingerprint": fingerprint(data)}}
    same = {**described, "data": identity(described["data"]), "training": training}
    if before is None:
        sizes = {"batch_size": usual_batch(data), "lr": LR, "weight_decay": None}
        settings = {**dict.fromkeys(limits), **sizes, "precision": "32", "seed": 0, **training}
    else:
        check_same(Path(out), before, same)
        settings = before["training"]
    accelerator = accelerator_for(device, settings["precision"])
    accelerator.wait_for_everyone()  # no process writes before all have looked
    whole = {**(before or {}), **described, "training": settings, **(config or {})}
    run = Run(model, data, Path(out), loss, accelerator, whole, clock, resume)
    if compiled:
        run.objective.compile()
    with Interruption() as stop:
        run.prepare(resume)
        run.go(stop, on_progress)
    return run.finish()


class Update(NamedTuple):
    """What a step came to, in all processes together.

    Attributes:
        nats: mean loss of the batch, of an example; of windows of recordings, of as many values as a whole one has.
        norm: of the gradient of nats per variable, before it was clipped.
        examples: of the batch.
        values: of these, which the loss is of.
        seconds: it took.
        asked: whether a process was asked to stop.
        late: whether the time is over.
    """

    nats: float
    norm: float
    examples: int
    values: int
    seconds: float
    asked: bool
    late: bool

    @property
    def finite(self) -> bool:
        """Whether the weights were changed."""
        return math.isfinite(self.nats) and math.isfinite(self.norm)


class Run:
    """One call of `train`: the loop is `go`; `update`, `skip`, `validate`, `draw` and `save` are its parts."""

    def __init__(
        self,
        model: Model,
        data: Data,
        folder: Path,
        loss: Loss,
        accelerator: Accelerator,
        config: dict[str, Any],
        clock: Clock,
        resume: bool,
    ) -> None:
        self.data, self.folder, self.accelerator, self.config, self.clock = data, folder, accelerator, config, clock
        self.settings: dict[str, Any] = config["training"]
        part = data.split("train")
        widths = part.widths(torch.arange(len(part)), data.past) if isinstance(part, Recordings) else None
        self.batches = Batches(len(part), self.settings["batch_size"], self.settings["seed"], widths)
        self.valid = validated(data) if len(data.split("valid")) else None
        self.variables = math.prod(data.shape)
        self.draws = accelerator.is_main_process and drawable(model, data)
        self.conditional = model.conditioner is not None
        model.to(accelerator.device).train()
        if not resume:  # every process does the same
            torch.manual_seed(mixed(self.settings["seed"], 0))
            model.initialize(*self.examples(self.batches.at(0)[1], 0)[:2])
        decay = self.settings.get("weight_decay")  # older runs record none
        if decay is None:
            decay = usual_decay(self.settings["lr"], self.batches.per_epoch)
        optimizer = torch.optim.AdamW(groups(model, decay), betas=BETAS, fused=True)
        self.objective, self.optimizer = accelerator.prepare(Objective(model, loss), optimizer)
        self.state = State(model, optimizer)  # now that all processes have the weights of the first

    @property
    def schedule(self) -> Schedule:
        """The rates of the run, once its length is fixed."""
        return Schedule(self.settings["planned_steps"], self.settings["lr"])

    def prepare(self, resume: bool) -> None:
        """Take over the state of a run that is resumed; fix the number of steps where it is not fixed."""
        if resume:
            read_state(self.folder, self.state)
            self.clock.go_on(self.state.counters.seconds)
        if not self.state.good:
            self.state.keep_good()
        if "planned_steps" not in self.settings:
            self.settings["planned_steps"] = self.planned_steps()
        self.save()

    def go(self, stop: Interruption, on_progress: Callable[[Record], None] | None) -> None:
        """Train until the schedule, the user or the validation ends it."""
        counters, schedule = self.state.counters, self.schedule
        folder = self.folder if self.accelerator.is_main_process else None  # the others keep silent
        with Logs(folder, self.data, schedule.steps, self.batches.per_epoch, counters.step, on_progress) as logs:
            while counters.step < schedule.steps and not counters.over:
                step, counters.step = counters.step, counters.step + 1
                rate = schedule.rate(step) * counters.slowdown
                update = self.update(step, rate, stop.asked)
                if update.finite:
                    counters.in_a_row = 0
                    self.state.update_average(schedule.decay(step))
                    logs.step(counters.step, update.nats, update.examples, update.values, update.seconds, rate)
                else:
                    self.skip(update, logs)
                counters.over = update.late
                if schedule.validation(counters.step) or counters.over:
                    self.validate(logs)
                if update.asked:
                    logs.say(f"interrupted after step {counters.step}: --resume (resume=True) goes on from there")
                    break
                if time.perf_counter() - self.saved > INTERVAL:
                    self.save()
            self.save()

    def update(self, step: int, lr: float, asked: bool = False) -> Update:
        """Change the weights by one batch, of which every process takes its share, if all is finite."""
        begin, world, rank = time.perf_counter(), self.accelerator.num_processes, self.accelerator.process_index
        torch.manual_seed(mixed(self.settings["seed"], step, rank))
        epoch, index = self.batches.at(step)
        x, context, counted = self.examples(index.tensor_split(world)[rank], epoch)
        values = int(self.data.counts("train", index).sum())  # of all processes
        means = cloned({str(i): buffer for i, buffer in enumerate(running(self.state.model))})
        self.optimizer.zero_grad()
        loss = self.objective(x, context, step, counted).sum()
        self.accelerator.backward(loss * (world / self.weight(values)))  # processes average gradients
        norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), CLIP)
        flags = loss.new_tensor([asked, self.clock.late(self.settings["minutes"])])
        told = self.accelerator.reduce(torch.cat([torch.stack([loss.detach(), norm / world]), flags])).tolist()
        if math.isfinite(told[0]) and math.isfinite(told[1]):
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
        else:  # one batch that is not finite would stay in a running mean for ever
            for buffer, before in zip(running(self.state.model), means.values(), strict=True):
                buffer.copy_(before)
        seconds = time.perf_counter() - begin
        nats = told[0] * (self.variables / values) - self.data.log_cell
        return Update(nats, told[1], len(index), values, seconds, told[2] > 0, told[3] > 0)

    def weight(self, values: int) -> float:
        """Return what the loss of a batch of so many values is divided by, to be that of one: their number.

        Of windows it is the mean number, or else samples would weigh more in a batch of short windows.
        """
        part = self.data.split("train")
        return part.x.numel() / self.batches.per_epoch if isinstance(part, Recordings) else values

    def examples(self, index: Tensor, epoch: int) -> Examples:
        """Return training examples on the device."""
        return self.data.examples("train", index, epoch).on(self.accelerator.device, self.conditional)

    def skip(self, update: Update, logs: Logs) -> None:
        """Count a step that changed nothing; after several in a row go back to the last good state, with half the rate.

        Raises:
            ValueError: that was done several times, in vain.
        """
        counters = self.state.counters
        counters.skipped, counters.in_a_row = counters.skipped + 1, counters.in_a_row + 1
        logs.skipped(counters.step, f"the {'gradient' if math.isfinite(update.nats) else 'loss'} is not finite")
        if counters.in_a_row < MOST_SKIPS:
            return
        self.state.load(self.state.good, "the last good state")
        counters.in_a_row, counters.returns, counters.slowdown = 0, counters.returns + 1, counters.slowdown / 2
        if counters.returns > MOST_RETURNS:
            self.save()
            raise ValueError(
                f"training diverges: {counters.skipped} steps were not finite, {MOST_RETURNS} times with a lower rate; "
                f"look at the data, or give a lower lr than {self.settings['lr']:g}"
            )
        logs.say(f"back to the last good state, with {counters.slowdown:g} of the rate")

    def validate(self, logs: Logs) -> None:
        """Keep the averaged weights if they are the best so far; stop where they have long been worse."""
        counters = self.state.counters
        if not counters.in_a_row:
            self.state.keep_good()
            counters.returns = 0
        if self.valid is None:
            return
        nats, kl = self.validation()
        better = math.isfinite(nats) and (counters.best_nats is None or nats < counters.best_nats)
        counters.worse += 1
        if better:
            counters.best_step, counters.best_nats, counters.worse = counters.step, nats, 0
            self.state.keep_best()
        unlimited = self.settings["steps"] is None and self.settings["minutes"] is None
        logs.validation(counters.step, nats, better, kl)
        if unlimited and counters.worse >= PATIENCE:
            counters.over = True
            logs.say(f"training ends: validation has been worse since step {counters.best_step}")
        if self.schedule.validation(counters.step) in DRAWS and self.draws:
            logs.pictures(counters.step, self.data.restore, self.drawn())

    def drawn(self) -> Tensor:
        """Return samples of the averaged weights."""
        return drawn(self.state.average, DRAWN, mixed(self.settings["seed"], self.state.counters.step))

    def validation(self) -> Validation:
        """Return what the averaged weights come to on the valid part, or on a seeded choice of it."""
        assert self.valid is not None
        return validation(self.state.average, self.data, self.valid, self.variables)

    def save(self) -> None:
        """Write a checkpoint, and the model as it would be if training ended here."""
        self.state.counters.seconds, self.saved = self.clock.elapsed(), time.perf_counter()
        if self.accelerator.is_main_process:
            write_state(self.folder, self.state)
            write_tensors(self.folder / WEIGHTS, self.state.result())
            result = asdict(self.summary(interrupted=not self.ended))
            write_json(self.folder / CONFIG, {**self.config, "result": result, "versions": versions()})

    def planned_steps(self) -> int:
        """Return for how many steps this run is."""
        if self.settings["steps"] is not None:
            return int(self.settings["steps"])
        if self.settings["minutes"] is not None:
            return self.measured_steps(60 * self.settings["minutes"])
        epochs = self.settings["epochs"] or default_epochs(self.batches.examples)
        return int(epochs * self.batches.per_epoch)

    def measured_steps(self, seconds: float) -> int:
        """Return how many steps fit into so many seconds since the call of `train`, with all that goes with them.

        Steps at a rate of zero are timed; afterwards everything is as before.
        """
        before = cloned(self.state.tensors())
        timed(lambda: self.update(0, lr=0.0))  # the first one is slower
        count = self.agreed(steps_to_time(seconds, timed(lambda: self.update(1, lr=0.0))))
        step = timed(lambda: [self.update(i, lr=0.0) for i in range(count)]) / count
        step *= self.batches.work(range(min(self.batches.per_epoch, TYPICAL))) / self.batches.work(range(count))
        self.state.load(before, "the state before")
        around = VALIDATIONS * timed(self.validation) if self.valid is not None else 0.0
        around += len(DRAWS) * timed(self.drawn) if self.draws else 0.0
        around += (2 + seconds / INTERVAL) * timed(self.save)
        return self.agreed(max(1, int((PLANNED * seconds - self.clock.elapsed() - around) / step)))

    def agreed(self, number: int) -> int:
        """Return the first process's number, in all processes."""
        return int(broadcast_object_list([number])[0])

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state.counters.over or self.state.counters.step >= self.settings.get("planned_steps", 1)

    def summary(self, interrupted: bool) -> Summary:
        """Return what the run has come to so far."""
        counters, discrete = self.state.counters, self.data.discrete is not None
        bits = None
        if discrete and counters.best_nats is not None:
            bits = counters.best_nats / (self.variables * math.log(2))
        return Summary(
            steps=counters.step,
            epochs=counters.step / self.batches.per_epoch,
            seconds=counters.seconds,
            parameters=sum(p.numel() for p in self.state.model.parameters()),
            best_step=counters.best_step or counters.step,
            valid_nats=counters.best_nats,
            valid_bits_per_dim=bits,
            interrupted=interrupted,
            stopped_early=counters.over,
            skipped=counters.skipped,
        )

    def finish(self) -> Summary:
        """Put the result into the model, and say what the run came to."""
        self.accelerator.wait_for_everyone()
        self.state.model.load_state_dict(self.state.result())
        self.state.model.eval()
        return self.summary(interrupted=not self.ended)


def usual_batch(data: Data) -> int:
    """Return the size of a batch where none is given."""
    part = data.split("train")
    return default_batch(len(part), part.window if isinstance(part, Recordings) else None)


def groups(model: Model, decay: float) -> list[dict[str, Any]]:
    """Return the parameters of an optimizer: weights, which decay, and biases and gains, which must be free."""
    parts: dict[bool, list[Tensor]] = {False: [], True: []}
    for name, parameter in model.named_parameters():
        parts[parameter.dim() < 2 or name.endswith("bias")].append(parameter)
    return [{"params": parts[False], "weight_decay": decay}, {"params": parts[True], "weight_decay": 0.0}]
