"""What a recipe says: a model, the data it wants, how it is trained, and the number that was reported."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ancestral.checkpoint import describe
from ancestral.model import Model
from ancestral.models import MODELS

__all__ = ["TRAINER", "Expected", "Recipe", "Wanted", "threes"]

TRAINER = "AdamW with averaged weights"  # what trains every model here, whatever the paper took


def threes(here: int, reported: int, *more: int) -> str:
    """Return why numbers of features are not those reported, in pairs: here, and there.

    >>> threes(129, 128, 1023, 1024)
    'channel groups of R, G and B take features in threes: 129 for 128, 1023 for 1024'
    """
    pairs = zip((here, *more[::2]), (reported, *more[1::2]), strict=True)
    words = ", ".join(f"{one} for {other}" for one, other in pairs)
    return f"channel groups of R, G and B take features in threes: {words}"


@dataclass(frozen=True)
class Wanted:
    """The data of a reported result.

    Args:
        name: in words.
        shape: one example, (C, H, W).
        levels: K, after binarization if there is any.
        where: how to get it, in the form that `ancestral.data.load` reads.
        binarize: how its levels become two, by the name that --binarize takes; None where they stay as they are.
        source: a built-in source; None where the user gives a file or a folder.
    """

    name: str
    shape: tuple[int, int, int]
    levels: int
    where: str
    binarize: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Expected:
    """A reported result on the test part (ImageNet: on its validation images).

    Args:
        value: the lower the better.
        unit: "nats" of an example, or "bits/dim".
        source: who reported it: arXiv id and place, or a file of this project.
    """

    value: float
    unit: str
    source: str

    def __str__(self) -> str:
        return f"{self.value:.2f} {self.unit}"


class Sizes(TorchFunctionMode):
    """Within it a number may be asked of tensors without values, on the meta device; it is one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return 1.0 if func is Tensor.item else func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Recipe:
    """How to get a reported result.

    Args:
        model: its name in the registry.
        arguments: of its constructor, but for the shape, which the data gives.
        data: what it is trained and tested on.
        training: arguments of `ancestral.training.train`: one of epochs, steps and minutes; batch_size, lr.
        expected: what was reported.
        differs: what here is not as reported, or not known; empty where nothing is.
    """

    model: str
    arguments: dict[str, Any]
    data: Wanted
    training: dict[str, Any]
    expected: Expected
    differs: str = ""

    @property
    def kind(self) -> type[Model]:
        """The class of the model."""
        return MODELS[self.model]

    def build(self) -> Model:
        """Return the model, new, for the data that the recipe wants."""
        return self.kind(shape=self.data.shape, **self.arguments)

    def parameters(self) -> int:
        """Return how many parameters the model has, without making them."""
        with torch.device("meta"), Sizes():
            return sum(p.numel() for p in self.build().parameters())

    def to_json(self) -> dict[str, Any]:
        """Return what a run records, and `ancestral recipes --json` prints."""
        arguments = {name: describe(value) for name, value in self.arguments.items()}
        told = {name: dataclasses.asdict(getattr(self, name)) for name in ("data", "expected")}
        told["data"]["shape"] = list(self.data.shape)
        return {
            "model": self.model,
            "arguments": arguments,
            **told,
            "training": self.training,
            "differs": self.differs,
        }
