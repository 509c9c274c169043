"""A model as a folder: `config.json` says how to build it, `model.safetensors` holds its weights.

The constructor's arguments are the configuration, recursively: {"class": "Bernoulli", "arguments": {}}, for instance.
Loading builds classes of this library only and reads tensors and JSON only: it never unpickles, so that a file from
elsewhere can do no harm. Every file is written to a temporary name and renamed, so that none is ever half-written.
"""

import json
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import Tensor, nn

from ancestral import __version__, conditioning, latents, likelihoods
from ancestral.files import replacing
from ancestral.model import Model
from ancestral.models import MODELS
from ancestral.pretrained import folder_of, is_pretrained
from ancestral.recorded import description

__all__ = ["build", "describe", "from_pretrained", "load", "push_to_hub", "read_config", "save", "save_pretrained"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
STORED = "stored"  # in config.json: the dtype in which weights were rounded to be small; they compute in float32
VALUES: tuple[type[Any], ...] = (  # what arguments of models are made of
    likelihoods.Bernoulli,
    likelihoods.Categorical,
    likelihoods.DiscretizedLogisticMixture,
    likelihoods.LogisticMixture,
    likelihoods.GaussianMixture,
    conditioning.OneHot,
    conditioning.Vector,
    conditioning.Map,
    conditioning.Frames,
    latents.Dense,
    latents.Convolutional,
    latents.Residual,
    latents.MeanField,
    latents.BottomUp,
    latents.Ladder,
    latents.TopDown,
)


def loadable() -> dict[str, type[Any]]:
    """Return the classes that `build` takes, by name: the registered models, and the values of this library."""
    return {cls.__name__: cls for cls in (*MODELS.values(), *VALUES)}


def describe(value: Any) -> Any:
    """Return a model, likelihood or conditioner as JSON: its class and arguments, recursively.

    A class that is neither a registered model nor of this library is described by its full name; `build` refuses it.

    Raises:
        ValueError: an argument is neither such an object nor plain data.

    >>> describe(likelihoods.LogisticMixture(5))
    {'class': 'LogisticMixture', 'arguments': {'components': 5}}
    """
    return description(value, class_name)


def class_name(cls: type[Any]) -> str:
    """Return the name by which `build` finds a class of this library, or the full name of another."""
    return cls.__name__ if loadable().get(cls.__name__) is cls else f"{cls.__module__}.{cls.__qualname__}"


def build(description: Any) -> Any:
    """Return what was described; lists become tuples.

    Raises:
        ValueError: it names a class that is neither of this library nor in `MODELS`, or arguments it does not take.

    >>> build({"class": "LogisticMixture", "arguments": {"components": 5}})
    LogisticMixture(components=5)
    """
    if isinstance(description, list):
        return tuple(build(item) for item in description)
    if not isinstance(description, dict):
        return description
    name, arguments = description.get("class"), description.get("arguments")
    known = loadable()
    if not isinstance(name, str) or name not in known or not isinstance(arguments, dict):
        raise ValueError(f"class {name!r} is not one that ancestral {__version__} can load: {', '.join(known)}")
    try:
        return known[name](**{key: build(item) for key, item in arguments.items()})
    except TypeError as error:
        raise ValueError(f"{name} of ancestral {__version__} does not take the recorded arguments: {error}") from error


def save(model: Model, folder: str | Path, **config: Any) -> None:
    """Write `config.json` and `model.safetensors`.

    Args:
        model: any model of this library.
        folder: made where it is not there.
        **config: what else `config.json` shall record, JSON.

    Raises:
        OSError: a file could not be written; the ones that were there before are intact.
    """
    description = describe(model)
    write_tensors(Path(folder) / WEIGHTS, model.state_dict())
    write_json(Path(folder) / CONFIG, {"model": description, "versions": versions(), **config})


def load(folder: str | Path) -> Model:
    """Return the model of a run folder, on the CPU and in evaluation mode.

    Args:
        folder: of a run, or "pretrained:NAME" for one of the models that come with this library.

    Raises:
        FileNotFoundError: there is no such folder, or it lacks one of the two files.
        ValueError: a file is damaged, or names classes or weights that do not fit; no such model is installed.
    """
    config, folder = read_config(folder), folder_of(folder)
    try:
        model = build(config.get("model"))
    except ValueError as error:
        raise ValueError(f"{Path(folder) / CONFIG}: {error}") from error
    if not isinstance(model, Model):
        raise ValueError(f"{Path(folder) / CONFIG} describes no model")
    load_weights(model, read_tensors(Path(folder) / WEIGHTS), str(Path(folder) / WEIGHTS))
    return (model.float() if STORED in config else model).eval()


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put tensors into a model, which takes on their dtype.

    Raises:
        ValueError: a tensor is missing, superfluous or of another shape; `source` says whose they are.
    """
    own = model.state_dict()
    for name in [*own, *(name for name in tensors if name not in own)]:
        has = tuple(tensors[name].shape) if name in tensors else "missing"
        wanted = tuple(own[name].shape) if name in own else "not one of its weights"
        if has != wanted:
            raise ValueError(f"{source} holds weights of another model: {name} is {has}, for this model {wanted}")
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        model.to(dtypes.pop())
    model.load_state_dict(tensors)


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return what `config.json` of a run folder records.

    Raises:
        FileNotFoundError: no such folder, or no `config.json` in it.
        ValueError: it is not JSON.
    """
    folder = folder_of(folder)
    if not folder.exists():
        raise FileNotFoundError(f"no such run folder: {folder}")
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} is no run folder: there is no {CONFIG} in it")
    return read_json(folder / CONFIG)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds, or raise ValueError where it holds none."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", "utf-8")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}; without it the run cannot be read")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut off: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    copies = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    with replacing(path) as part:
        part.write_bytes(serialized(copies, metadata={"format": "pt"}))


def versions() -> dict[str, str]:
    """Return the versions that a run folder records."""
    return {"ancestral": __version__, "torch": torch.__version__, "python": platform.python_version()}


def save_pretrained(model: Model, folder: str | Path) -> None:
    """Write a model into a folder, as `save` does, for `from_pretrained`."""
    save(model, folder)


def from_pretrained(name_or_folder: str | Path, cls: type[Model] = Model, *, revision: str | None = None) -> Model:
    """Return a model from a folder, or from the Hugging Face hub.

    Args:
        name_or_folder: a folder, which is taken where there is one, "pretrained:NAME", or OWNER/NAME on the hub.
        cls: what it has to be.
        revision: branch, tag or commit on the hub.

    Raises:
        OSError: there is neither such a folder nor such a model that can be downloaded.
        ValueError: it is not a model of that class, or damaged.
    """
    folder = folder_of(name_or_folder)
    if not is_pretrained(name_or_folder) and not folder.is_dir():
        folder = downloaded(str(name_or_folder), revision)
    model = load(folder)
    if not isinstance(model, cls):
        raise ValueError(f"{name_or_folder} holds a {type(model).__name__}, not a {cls.__name__}")
    return model


def downloaded(name: str, revision: str | None) -> Path:
    """Return the local copy of a model on the hub."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FileNotFoundError(f"{name!r} is no folder, and no model could be downloaded by it: {reason}") from error


def push_to_hub(model: Model, repo_id: str, *, private: bool | None = None) -> str:
    """Upload a model to the Hugging Face hub and return its address there.

    Args:
        model: any model of this library.
        repo_id: OWNER/NAME, made where it is not there.
        private: whether a new one shall be private.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder)
        info = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload a model of ancestral")
    return str(info)
