"""What a recipe says: a model, the data it wants, how it is trained, and the number that was reported."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ancestral.checkpoint import describe
from ancestral.data.dataset import SPLITS, Data
from ancestral.model import Model
from ancestral.models import MODELS
from ancestral.training.resuming import fingerprint

__all__ = ["OWN", "TRAINER", "Expected", "Recipe", "Wanted", "threes"]

TRAINER = "AdamW with averaged weights"  # what trains every model here, whatever the paper took
OWN = "results/recipes.json"  # where none is published: for this data, or for so small a model


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
        shape: one example, (C, H, W), (C, T) or (D,).
        levels: K, after binarization if there is any; None of continuous values.
        where: how to get it, in the form that `ancestral.data.load` reads.
        binarize: how its levels become two, by the name that --binarize takes; None where they stay as they are.
        source: a built-in source; None where the user gives a file or a folder.
        file: what the data of the user is called where it lies among that of other recipes: NAME.npz, or a folder NAME.
        checksum: of the examples that the figures are of, as `training.resuming.fingerprint` has it, of all splits;
            None where it is not known.
    """

    name: str
    shape: tuple[int, ...]
    levels: int | None
    where: str
    binarize: str | None = None
    source: str | None = None
    file: str | None = None
    checksum: str | None = None

    def differing(self, data: Data) -> str | None:
        """Return the checksum of data where it is not the one wanted; None where it is, or none is known."""
        found = None if self.checksum is None else fingerprint(data, SPLITS)
        return None if found == self.checksum else found


@dataclass(frozen=True)
class Expected:
    """A reported result on the test part (ImageNet: on its validation images).

    Args:
        value: the lower the better.
        unit: "nats" of an example, "bits/dim", or of recordings "bits/sample".
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
        training: arguments of `ancestral.training.train`: one of epochs, steps and minutes; batch_size, lr,
            weight_decay; loss, as `--loss` names it.
        expected: what was reported.
        differs: what here is not as reported, or not known; empty where nothing is.
        quick: whether one thread of a CPU follows it in minutes; `recipes.GPU` names those for a GPU.
    """

    model: str
    arguments: dict[str, Any]
    data: Wanted
    training: dict[str, Any]
    expected: Expected
    differs: str = ""
    quick: bool = False

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
