"""A run folder as the commands see it: the trained model, what was recorded of its data, and the data itself.

Data of another source is brought to what the model was trained on: its labels to the run's classes by name, columns of
a continuous table to the run's units.
"""

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ancestral.checkpoint import CONFIG, load, read_config
from ancestral.conditioning import OneHot
from ancestral.data import BINARIZE, BUILT_IN, GIVEN, Audio, Data, Given, Restore, Split, rebuild
from ancestral.data import load as load_data
from ancestral.data.given import GivenPicture
from ancestral.data.recordings import Recordings
from ancestral.data.restore import Pictures, Table
from ancestral.model import Model
from ancestral.models import MODELS
from ancestral.pretrained import folder_of, is_pretrained, name_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Run", "device_named", "listed", "open_run", "recorded_data", "registered", "run_config"]

RECORDED = {"source", "options", "seed", "shape", "levels", "classes", "counts", "notes", "restore"}  # of the data


class Run(NamedTuple):
    """A trained model and its folder.

    Attributes:
        folder: where it lies, or pretrained:NAME.
        model: with its weights, on a device, in evaluation mode.
        config: what config.json says.
    """

    folder: Path
    model: Model
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """The model's name in the registry."""
        return registered(self.model)

    @property
    def source(self) -> str:
        """The data that the run was trained on, as the user named it."""
        return source_of(self.config["data"])

    @property
    def results(self) -> Path:
        """Where commands write what they find: the run's folder; of an installed model, one in the current folder."""
        return Path(f"pretrained-{name_of(self.folder)}") if is_pretrained(self.folder) else self.folder

    def found(self, pattern: str) -> list[Path]:
        """Return what commands found and wrote, files of such names; of an installed model also what came with it."""
        files = [*folder_of(self.folder).glob(pattern), *self.results.glob(pattern)]
        return sorted({path.name: path for path in files}.values(), key=lambda path: path.name)

    @property
    def restore(self) -> Restore:
        """What turns the model's levels into something a user opens; no data is needed for it."""
        return rebuild(self.config["data"]["restore"])

    @property
    def audio(self) -> Audio | None:
        """What turns the model's levels into sound, None where the run is not of recordings."""
        restore = self.restore
        return restore if isinstance(restore, Audio) else None

    def pictures(self, x: Tensor) -> "list[Image.Image]":
        """Return levels (N, C, H, W) as pictures.

        Raises:
            ValueError: the run is not of pictures.
        """
        restore = self.restore
        if not isinstance(restore, Pictures):
            raise ValueError(f"{self.folder} is no run of grey or RGB pictures, but of {self.source}")
        return restore(x)

    @property
    def given(self) -> Given | None:
        """What makes of an example what the model is conditioned on, None where that is a label or nothing."""
        name = self.config["data"]["options"].get("given")
        return None if name is None or isinstance(self.model.conditioner, OneHot | None) else GIVEN[name]

    def given_of(self, x: Tensor) -> Tensor:
        """Return the pictures that the model is given of pictures x, levels (N, C, H, W).

        Raises:
            ValueError: it is given something that is no picture.
        """
        if not isinstance(self.given, GivenPicture):
            what = "nothing" if self.given is None else self.given.words
            raise ValueError(f"{self.folder}: the model is given {what}, no picture; use it from Python")
        return self.given(x)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes that the model is conditioned on, None where it is not.

        Raises:
            ValueError: the model is conditioned on something else, which a command line cannot name.
        """
        conditioner = self.model.conditioner
        if conditioner is None or self.given is not None:
            return None
        if not isinstance(conditioner, OneHot):
            kind = type(conditioner).__name__
            raise ValueError(
                f"{self.folder}: the model is conditioned by {kind}; use it from Python, with your contexts"
            )
        names = tuple(self.config["data"].get("classes") or ())
        return names + tuple(str(label) for label in range(len(names), conditioner.classes))

    def label(self, word: str) -> int:
        """Return the class of that name, or of that number.

        Raises:
            ValueError: the model has no classes, or none of that name.
        """
        names = self.classes
        if self.given is not None:
            raise ValueError(f"--context {word}: the model of {self.folder} is given {self.given.words}; leave it out")
        if names is None:
            raise ValueError(f"--context {word}: the model of {self.folder} is unconditional; leave it out")
        if word in names:
            return names.index(word)
        if word.isdecimal() and int(word) < len(names):
            return int(word)
        near = [] if word.isdecimal() else get_close_matches(word, names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"--context {word}: no such class{hint}; there are {listed(names)}")

    def told(self, context: Tensor | None) -> Tensor | None:
        """Return the context of examples of the run's data where the model takes one, else None.

        Raises:
            ValueError: it takes something else, as `classes` says.
        """
        return context if self.given is not None or self.classes is not None else None

    def some_context(self, n: int) -> Tensor | None:
        """Return some context for n examples, made without data: the classes in turn, or random maps; None for none."""
        if self.given is not None:
            example = self.model.conditioner.example  # type: ignore[union-attr]
            return example(n, self.model.shape, torch.Generator().manual_seed(0))  # type: ignore[operator]
        return None if self.classes is None else torch.arange(n) % len(self.classes)

    def data(self, source: str | None = None, labelled: bool = True) -> Data:
        """Return the data that the run was trained on, or another source read with the same options.

        Another source without splits is all test part.

        Args:
            source: another one.
            labelled: whether its labels must be classes of the run; else they stay as they are, to be left alone.

        Raises:
            ValueError: another source has other shapes, levels, columns or classes than the run.
            OSError: it cannot be read.
        """
        if source is None:
            check_there(self.folder, self.source)
        data = recorded_data(self.config, source, whole=source is not None)
        return data if source is None else fitted(data, self, labelled)


def open_run(folder: str | Path, device: str = "auto") -> Run:
    """Return the run in a folder, or the installed one of "pretrained:NAME", its model on the device.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it is not a run, or its files are damaged; no such model is installed; no such device.
    """
    config = run_config(folder)
    return Run(Path(folder), load(folder).to(device_named(device)), config)


def check_there(folder: Path, source: str) -> None:
    """Raise FileNotFoundError where an installed model was trained on data that this machine does not have."""
    if is_pretrained(folder) and source not in BUILT_IN and not Path(source).exists():
        do = f"give a file (--data or --input), or have it here as {source}"
        card = f"ancestral models --pretrained {name_of(folder)}"
        raise FileNotFoundError(f"{folder} comes without its data, {source}: {do} (what it is: {card})")


def run_config(folder: str | Path) -> dict[str, Any]:
    """Return what config.json of a run says; raise ValueError where it is none of a run, or damaged."""
    config = read_config(folder)
    if "model" not in config or not isinstance(data := config.get("data"), dict) or not RECORDED <= data.keys():
        raise ValueError(f"{folder} is no run of ancestral train: its config.json names no model, or no data")
    try:
        rebuild(data["restore"])
    except ValueError as error:
        raise ValueError(f"{Path(folder) / CONFIG} is damaged: {error}") from error
    return config


def source_of(recorded: dict[str, Any]) -> str:
    """Return the name of recorded data as the user typed it; older runs recorded no more than this."""
    return str(recorded.get("name", recorded["source"]))


def recorded_data(config: dict[str, Any], source: str | None = None, whole: bool = False) -> Data:
    """Return the data that a run recorded, or another source read with the same options, and perhaps as a whole."""
    recorded = config["data"]
    options = dict(recorded["options"])
    if isinstance(options.get("size"), list):
        options["size"] = tuple(options["size"])
    options["binarize"] = BINARIZE[options["binarize"]] if options.get("binarize") else None
    options["given"] = GIVEN[options["given"]] if options.get("given") else None
    try:
        data = load_data(source or recorded["source"], seed=recorded["seed"], whole=whole, **options)
    except ValueError as error:
        if source is None or "rate" not in options or load_data(source).recordings:
            raise
        ours = source_of(recorded)
        raise ValueError(f"{source} holds no recordings, the run was trained on recordings ({ours})") from error
    return replace(data, name=source or source_of(recorded))


def registered(model: Model) -> str:
    """Return the name of a model's class in the registry."""
    return next((name for name, kind in MODELS.items() if type(model) is kind), type(model).__name__)


def device_named(name: str) -> torch.device:
    """Return the device: "cpu", "cuda", or "auto", the GPU where there is one.

    Raises:
        ValueError: there is no GPU.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ValueError("device cuda: this machine has no GPU that torch can use; cpu or auto would do")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def fitted(data: Data, run: Run, labelled: bool = True) -> Data:
    """Return data of another source in the run's units, with its labels numbered as the run's classes."""
    recorded = run.config["data"]
    for what, theirs, ours in (
        ("examples of shape", list(data.shape), list(recorded["shape"])),
        ("levels", data.discrete or "continuous", recorded["levels"] or recorded.get("dequantized") or "continuous"),
    ):
        if theirs != ours:
            raise ValueError(f"{data.name} has {what} {theirs}, the run was trained on {ours} ({run.source})")
    data = in_units(data, run.restore)
    if not labelled or run.classes is None or data.classes is None:
        return data
    return relabelled(data, run.classes)


def in_units(data: Data, restore: Restore) -> Data:
    """Return a table with the columns of `restore` standardised as there."""
    theirs = data.restore
    if not isinstance(theirs, Table) or not isinstance(restore, Table):
        return data
    if theirs.columns != restore.columns or theirs.values != restore.values:
        what = "columns" if theirs.columns != restore.columns else "values of the columns"
        raise ValueError(f"{data.name} has other {what} than the table that the run was trained on")
    if theirs.mean is None or restore.mean is None or restore.std is None:
        return data
    mean, std = torch.tensor(restore.mean).double(), torch.tensor(restore.std).double()

    def converted(x: Tensor) -> Tensor:
        return ((torch.from_numpy(theirs(x)) - mean) / std).float()

    splits = {name: Split(converted(part.x), part.labels) for name, part in data.splits.items()}
    return replace(data, splits=splits, restore=restore)


def listed(names: tuple[str, ...]) -> str:
    """Return names for a message, the first ones where they are many."""
    return ", ".join(names) if len(names) <= 20 else f"{', '.join(names[:20])}, ... ({len(names)} of them)"


def relabelled(data: Data, classes: tuple[str, ...]) -> Data:
    """Return data whose labels are numbered as `classes`, by name."""
    assert data.classes is not None
    unknown = [name for name in data.classes if name not in classes]
    if unknown:
        raise ValueError(f"{data.name} has the class {unknown[0]!r}, the run's classes are {listed(classes)}")
    number = torch.tensor([classes.index(name) for name in data.classes])

    def renumbered(part: Split | Recordings) -> Split | Recordings:
        if isinstance(part, Recordings):
            return part if part.of is None else replace(part, of=number[part.of])
        return part if part.labels is None else replace(part, labels=number[part.labels])

    splits = {name: renumbered(part) for name, part in data.splits.items()}
    return replace(data, splits=splits, classes=classes)
