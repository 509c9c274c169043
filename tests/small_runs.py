"""Small models, small data and losses to train with, and what a run folder then holds."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.causal.conv import CausalConv1d
from ancestral.checkpoint import read_tensors
from ancestral.conditioning import OneHot
from ancestral.data import Data, Recordings
from ancestral.data.dataset import Split
from ancestral.data.restore import Arrays, Pictures
from ancestral.likelihoods import Categorical
from ancestral.model import Model
from ancestral.models import MADE
from ancestral.objectives import nll
from ancestral.walk import Walk, shift_right, with_ones


def some_data(examples: int = 50, valid: int = 12) -> Data:
    """Rows of five bits that mostly repeat each other, and labels."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(2, (examples + valid, 1), generator=generator).expand(-1, 5).clone()
    x ^= (torch.rand(x.shape, generator=generator) < 0.1).long()
    labels = torch.randint(3, (len(x),), generator=generator)
    splits = {"train": Split(x[:examples], labels[:examples]), "valid": Split(x[examples:], labels[examples:])}
    return Data("some", (5,), 2, ("a", "b", "c"), {**splits, "test": splits["valid"]}, (), Arrays(2))


def pictures() -> Data:
    x = torch.randint(4, (40, 1, 4, 3), generator=torch.Generator().manual_seed(1)).byte()
    labels = torch.arange(40) % 3
    splits = {name: Split(x, labels) for name in ("train", "valid", "test")}
    return Data("pictures", (1, 4, 3), 4, ("a", "b", "c"), splits, (), Pictures(4))


class Causal(Model):
    """A small network over time: two layers, of which each pads on its own."""

    def __init__(self, *, levels: int = 4, classes: int | None = None, conditioner: nn.Module | None = None) -> None:
        super().__init__()
        self.shape, self.likelihood, self.reach = (1, 8), Categorical(levels), 1 + 2 + 3
        self.conditioner = conditioner if classes is None else OneHot(classes=classes)
        self.first = CausalConv1d(2, 8, taps=3)
        self.second = CausalConv1d(8, levels, taps=2, dilation=3)
        self.given = None if self.conditioner is None else nn.Conv1d(self.conditioner.features, 8, 1)

    def log_probs(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(shift_right(with_ones(self.likelihood.scale(self.check(x)))))
        if self.given is not None:
            given = self.conditioner(self.check_context(context, len(x))).float()
            h = h + self.given(given[:, :, None] if given.dim() == 2 else given)
        return self.likelihood.log_probs(self.second(torch.tanh(h)), x)

    def walk(self, *arguments: Any, **more: Any) -> Walk:
        raise NotImplementedError

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        raise NotImplementedError


def causal(**arguments: Any) -> Causal:
    torch.manual_seed(3)
    return Causal(**arguments)


LENGTHS = (13, 5, 1, 20, 8, 9)


def part(lengths: tuple[int, ...] = LENGTHS, window: int = 8, **more: Any) -> Recordings:
    """Recordings of four levels, each mostly the one before."""
    generator = torch.Generator().manual_seed(sum(lengths))
    steps = torch.rand(1, sum(lengths), generator=generator) < 0.3
    return Recordings((steps.cumsum(1) % 4).byte(), torch.tensor(lengths, dtype=torch.long), window, **more)


def recordings(window: int = 8, **parts: Recordings) -> Data:
    """Recordings of unequal lengths, most of them no multiple of the window."""
    labelled = {"window": window, "of": torch.arange(6) % 3}
    splits = {"train": part(**labelled), "valid": part(LENGTHS[::-1], **labelled), "test": part(**labelled), **parts}
    return Data("sounds", (1, window), 4, ("a", "b", "c"), splits, (), Arrays(4))


def made(**arguments: Any) -> MADE:
    torch.manual_seed(3)
    return MADE(**{"shape": (5,), "hidden": (16,), "classes": 3, **arguments})


def tensors(folder: Path) -> dict[str, Tensor]:
    state = json.loads((folder / "training" / "state.json").read_text())
    return read_tensors(folder / "training" / state["tensors"])


def records(folder: Path, split: str | None = None) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if split in (None, line["split"])]


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def interrupting(step: int, number: int = signal.SIGINT) -> Callable[[dict[str, Any]], None]:
    """What sends a signal to this process after a step."""
    at = (step, "train")
    return lambda record: os.kill(os.getpid(), number) if (record["step"], record["split"]) == at else None


def interrupting_early() -> Callable[[dict[str, Any]], None]:
    """What sends a signal at the first record of training; at which step that is depends on how many are planned."""
    told: list[Any] = []
    return lambda record: None if told or told.append(record) else os.kill(os.getpid(), signal.SIGINT)


def noisy(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
    """A loss with noise in it, as dropout would make it."""
    return nll(model, x, context, step) * (0.5 + torch.rand(len(x)))


def worse(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
    """A loss that makes the likelihood worse at every step."""
    return -nll(model, x, context, step)


def failing(at: Callable[[int], bool], how: Callable[[Tensor], Tensor]) -> Any:
    """The loss, spoilt at some steps."""

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        losses = nll(model, x, context, step)
        return how(losses) if at(step) else losses

    return loss


def not_a_number(losses: Tensor) -> Tensor:
    return losses * float("nan")


def wild_gradient(losses: Tensor) -> Tensor:
    return losses + (losses - losses).sqrt()  # the value is right, its gradient is not finite


def watched(seen: list[Tensor], factor: Callable[[int], float]) -> Any:
    """The loss times a factor of the step, which keeps the weights that each step begins with."""

    def loss(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        seen.append(model.get_parameter("layers.0.weight").detach().clone())
        return nll(model, x, context, step) * factor(step)

    return loss
