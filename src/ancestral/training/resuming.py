"""What a run has to remember to go on as if it had never stopped, and the folder that remembers it.

`training/state.json` holds numbers and names the safetensors file beside it that holds the tensors. A new file of
tensors is written first; the run stands at the new step when `state.json` is renamed, all at once.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ancestral.checkpoint import CONFIG, load_weights, read_config, read_json, read_tensors, write_json, write_tensors
from ancestral.data import Data, Recordings
from ancestral.model import Model
from ancestral.pretrained import is_pretrained


@dataclass
class Counters:
    """The numbers of a run.

    Attributes:
        step: steps done, the skipped ones included.
        seconds: spent on them, over all sessions.
        best_step: after which the best validation was; 0 before the first.
        best_nats: of that validation.
        worse: validations since then.
        skipped: steps skipped because something was not finite.
        in_a_row: the last ones of them, if they were the last steps.
        returns: to the last good state since it was taken.
        slowdown: factor of the rate, halved at each return.
        over: whether the run has ended early: it overfitted, or its time is over.
    """

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_nats: float | None = None
    worse: int = 0
    skipped: int = 0
    in_a_row: int = 0
    returns: int = 0
    slowdown: float = 1.0
    over: bool = False


class State:
    """Everything that a run changes.

    Attributes:
        model: what is trained.
        average: the same model with averaged weights (an exponential moving average).
        best: the averaged weights of the best validation; None before the first.
        good: what `tensors` returned when training was last known to go well, to return to.
        optimizer: of all the model's parameters.
        counters: the numbers.
    """

    def __init__(self, model: Model, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.best: dict[str, Tensor] | None = None
        self.good: dict[str, Tensor] = {}
        self.counters = Counters()

    def update_average(self, decay: float) -> None:
        """Move the averaged weights to the present ones: decay is how much of the old average stays."""
        present = [parameter.detach() for parameter in self.model.parameters()]
        torch._foreach_lerp_(list(self.average.parameters()), present, 1 - decay)
        for mine, theirs in zip(running(self.average), running(self.model), strict=True):
            mine.lerp_(theirs, 1 - decay) if mine.is_floating_point() else mine.copy_(theirs)

    def keep_best(self) -> None:
        """Take the present average as the best."""
        self.best = cloned(self.average.state_dict())

    def keep_good(self) -> None:
        """Take the present state as the good one."""
        self.good = cloned(self.tensors())

    def result(self) -> dict[str, Tensor]:
        """Return the best averaged weights, or the averaged weights before the first validation."""
        return self.average.state_dict() if self.best is None else self.best

    def tensors(self) -> dict[str, Tensor]:
        """Return the present tensors by name, not copied."""
        names, moments = self.optimized(), self.optimizer.state_dict()["state"]
        return {
            **prefixed("model", self.model.state_dict()),
            **prefixed("average", self.average.state_dict()),
            **{f"optimizer.{names[i]}.{key}": m for i, of in moments.items() for key, m in of.items()},
        }

    def optimized(self) -> list[str]:
        """Return the names of the parameters, in the order in which the optimizer numbers them."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        return [names[parameter] for group in self.optimizer.param_groups for parameter in group["params"]]

    def load(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Take over what `tensors` returned, as copies; `source` says in errors where it comes from."""
        load_weights(self.model, without("model", tensors), source)
        load_weights(self.average, without("average", tensors), source)
        self.load_optimizer(without("optimizer", tensors))

    def load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the moments, named PARAMETER.KEY."""
        number = {name: i for i, name in enumerate(self.optimized())}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in cloned(tensors).items():
            parameter, _, key = name.rpartition(".")
            moments.setdefault(number[parameter], {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})


def running(model: nn.Module) -> list[Tensor]:
    """Return the running means and variances of batch normalisation, which every pass in training changes."""
    parts = (part for part in model.modules() if isinstance(part, _BatchNorm))
    return [buffer for part in parts for buffer in part.buffers(recurse=False)]


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under longer names."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names have the prefix, without it."""
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def cloned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def write_state(folder: Path, state: State) -> None:
    """Write what resuming needs into `training/`; the state before stays valid until all is written."""
    name = f"step-{state.counters.step:08d}.safetensors"
    kept = {**prefixed("best", state.best or {}), **prefixed("good", state.good)}
    write_tensors(folder / "training" / name, {**state.tensors(), **kept})
    write_json(folder / "training" / "state.json", {"tensors": name, **asdict(state.counters)})
    for old in (folder / "training").glob("step-*.safetensors"):
        if old.name != name:
            old.unlink()


def read_state(folder: Path, state: State) -> None:
    """Take over the state of a run.

    Raises:
        FileNotFoundError: the folder holds none.
        ValueError: it is damaged, or of another model.
    """
    path = folder / "training" / "state.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds a model but no training/state.json: there is nothing to resume")
    numbers = read_json(path)
    tensors = folder / "training" / str(numbers.pop("tensors", ""))
    held = read_tensors(tensors)
    state.load(held, str(tensors))
    best, good = (
        {name: tensor.to(state.model.device) for name, tensor in without(kept, held).items()}
        for kept in ("best", "good")
    )
    state.best, state.good = best or None, good
    try:
        state.counters = Counters(**numbers)
    except TypeError as error:
        raise ValueError(f"{path} is of another version of ancestral: {error}") from error


def earlier(folder: Path, resume: bool) -> dict[str, Any] | None:
    """Return what the folder records of the run to resume, or None for a new run.

    Raises:
        FileNotFoundError: there is no run to resume.
        ValueError: there is a run, and it shall not be resumed; the folder is that of an installed model.
    """
    if is_pretrained(folder):
        raise ValueError(f"{folder} is installed with ancestral, and is not trained any further: give a new folder")
    if resume:
        return read_config(folder)
    if (folder / CONFIG).exists():
        raise ValueError(f"{folder} already holds a run: go on with --resume (resume=True), or give another folder")
    return None


def check_same(folder: Path, config: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    """Raise ValueError where parts of what a folder records differ from what its run would be resumed with."""
    was = {name: config.get(name) for name in description}
    if differs := difference(was, description):
        raise ValueError(f"{folder} cannot be resumed: {differs}")


def identity(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a description of data says which examples they are; the path by which they are found does not."""
    return {name: description[name] for name in ("shape", "levels", "counts", "options", "seed", "fingerprint")}


def difference(was: Any, now: Any, name: str = "") -> str | None:
    """Return, in words, the first place in a JSON value where another was recorded.

    >>> difference({"model": {"layers": 2}}, {"model": {"layers": 3}})
    'model.layers is 2 in the run, got 3'
    """
    if isinstance(was, dict) and isinstance(now, dict):
        found = (difference(was.get(key), now[key], f"{name}.{key}".lstrip(".")) for key in now)
        return next(filter(None, found), None)
    return None if was == now else f"{name} is {was} in the run, got {now}"


def fingerprint(data: Data, splits: Sequence[str] = ("train", "valid")) -> str:
    """Return a hash of examples and labels; by default of those that a run trains on and is validated by."""
    digest = hashlib.sha256()
    for split in splits:
        part = data.split(split)
        own = (part.lengths, part.of) if isinstance(part, Recordings) else (part.labels,)
        for tensor in (part.x, *own):
            if tensor is not None:
                digest.update(str((split, tensor.dtype, tuple(tensor.shape))).encode())
                digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
