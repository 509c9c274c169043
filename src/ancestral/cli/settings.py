"""What a user writes on a command line, as a model and its data: `layers=12`, `hidden=500,500`, `likelihood=Name(...)`.

See `values` for what a value may be. What the data says is left out: the levels of a likelihood, the shape of a model.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import torch

from ancestral import latents
from ancestral.checkpoint import build, describe
from ancestral.cli.values import Call, called, described, fitted, literal, made, nearest
from ancestral.conditioning import Frames, Map, Vector
from ancestral.data import BINARIZE, GIVEN, Data, Mel, load
from ancestral.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretizedLogisticMixture,
    GaussianMixture,
    Likelihood,
    LogisticMixture,
)
from ancestral.model import Model
from ancestral.models import MADE, MODELS, HierarchicalVAE, WaveNet
from ancestral.objectives import LOSSES, Loss, nll
from ancestral.recipes import Recipe
from ancestral.report.words import size_of
from ancestral.runs import recorded_data, registered, run_config, source_of
from ancestral.training.resuming import fingerprint

__all__ = [
    "LIKELIHOODS",
    "Start",
    "arguments_of",
    "begun",
    "build_model",
    "default_likelihood",
    "differing",
    "likelihood_of",
    "loss_of",
    "model_named",
    "resumed",
]

LIKELIHOODS: dict[str, type[Likelihood]] = {
    kind.__name__: kind
    for kind in (Bernoulli, Categorical, DiscretizedLogisticMixture, LogisticMixture, GaussianMixture)
}
POSTERIORS = {kind.__name__: kind for kind in (latents.MeanField, latents.BottomUp, latents.Ladder, latents.TopDown)}
LAYERS = {kind.__name__: kind for kind in (latents.Dense, latents.Convolutional, latents.Residual)}
NESTED = {kind.__name__: kind for kind in MODELS.values() if kind.exact}  # models that are an argument of others
VALUES: tuple[tuple[Any, str, Mapping[str, type[Any]], str], ...] = (  # arguments that are values with a name
    (latents.Posterior, "posterior", POSTERIORS, "MeanField"),
    (latents.Layers, "layers", LAYERS, "Dense(hidden=(200, 100))"),
)
WITHIN: Mapping[str, Mapping[str, type[Any]]] = {
    "conditioner": {"Map": Map, "Vector": Vector},
    "likelihood": LIKELIHOODS,
}
FEW_LEVELS = 32  # up to here a softmax needs no idea of which levels are neighbours
MOST_LEVELS = 256  # of a softmax
MAPS = 16  # that latents are decoded to, where a decoder is named without its conditioner


class Start(NamedTuple):
    """What a training starts from, or goes on with.

    Attributes:
        name: of the model in the registry.
        model: new, or built anew from what a run recorded.
        data: to train on.
    """

    name: str
    model: Model
    data: Data


def begun(
    name: str,
    source: str,
    settings: list[str],
    options: dict[str, Any],
    seed: int,
    arguments: Callable[[Data], dict[str, Any]] = lambda data: {},
) -> Start:
    """Return what a new run starts from.

    Args:
        name: of the model.
        source: of the data.
        settings: `name=value` of the model.
        options: of `load`, but the names of binarize and given.
        seed: of everything random: made splits, binarization, first weights, training.
        arguments: of the model, where the settings say nothing else, from the data.
    """
    model_named(name)  # an unknown model is said before the data is read
    binarize = BINARIZE[options["binarize"]] if options["binarize"] else None
    given = GIVEN[options["given"]] if options["given"] else None
    data = load(source, seed=seed, **options | {"binarize": binarize, "given": given})
    torch.manual_seed(seed)
    return Start(name, build_model(name, data, settings, arguments(data)), data)


def resumed(out: Path, name: str | None, source: str | None, settings: list[str], options: dict[str, Any]) -> Start:
    """Return what the run in a folder goes on with; what is said of it again must be as it was.

    Raises:
        ValueError: something is said that differs, or the folder holds no run.
        OSError: the folder, or the data, cannot be read.
    """
    config = run_config(out)
    model, data = build(config["model"]), recorded_data(config, source)
    if source is not None and fingerprint(data) != config["data"].get("fingerprint"):
        raise ValueError(differing(f"--data {source}", source_of(config["data"]), out))
    before: dict[str, Any] = {"MODEL": registered(model)}
    again: dict[str, Any] = {"MODEL": name}
    for key, value in options.items():
        word = f"--{key.replace('_', '-')}"
        before[word], again[word] = data.options.get(key), value or None
    for what, value in again.items():
        if value is not None and value != before[what]:
            raise ValueError(differing(f"{what} {value}", before[what], out))
    for setting in settings:
        key, value = parsed(setting, registered(model), arguments_of(type(model)), data)
        value = nested(key, value, type(model), data, model.arguments) if isinstance(value, Call) else value
        if describe(value) != describe(model.arguments[key]):
            raise ValueError(differing(f"--set {setting}", model.arguments[key], out))
    return Start(registered(model), model, data)


def loss_of(text: str | None, out: Path, resume: bool, recipe: Recipe | None = None) -> Loss:
    """Return the loss that is named, or that of the run which is resumed, of the recipe; nll by default."""
    if text is None and resume:
        text = run_config(out)["training"].get("loss")
    elif text is None and recipe is not None:
        text = recipe.training.get("loss")
    if text is None or text == nll.__qualname__:
        return nll
    call = called(text, "--loss", "loss", LOSSES, "elbo(warm_up=2000)")
    loss: Loss = made(call, "--loss")
    return loss


def differing(now: str, before: Any, out: Path) -> str:
    """Return the error of a resumed run that is described as another one."""
    return f"{now}: the run in {out} has {before}; leave it out, or begin another run"


def build_model(name: str, data: Data, settings: list[str], arguments: Mapping[str, Any] | None = None) -> Model:
    """Return a new model of the data: settings first, then the arguments, then what the data says, then the defaults.

    Data with labels makes the model class-conditional, unless `classes=null` is among the settings; data with maps in
    their place conditions it on these.

    Raises:
        ValueError: an unknown model, argument or likelihood (the nearest name is said), or a value that does not fit.
    """
    kind = model_named(name)
    check_suits(kind, name, data)
    hints = arguments_of(kind)
    given: dict[str, Any] = {"likelihood": default_likelihood(kind, data)}
    if data.given is not None:
        given["conditioner"] = conditioner_of(kind, name, data)
    elif data.classes is not None and "classes" in hints:
        given["classes"] = len(data.classes)
    given |= arguments or {}
    for setting in settings:
        key, value = parsed(setting, name, hints, data)
        given[key] = value
    given |= {key: nested(key, value, kind, data, given) for key, value in given.items() if isinstance(value, Call)}
    if data.given is not None and given.get("classes") is not None:
        raise ValueError(
            f"--set classes={given['classes']}: the model is given {data.given.words}; leave one of them out"
        )
    return kind(shape=data.shape, **given)


def nested(key: str, call: Call, kind: type[Model], data: Data, given: Mapping[str, Any]) -> Model:
    """Return a model that is an argument of a model: of its top latent, or of x given the latents.

    Args:
        key: the argument.
        call: what was typed: the class and some of its arguments.
        kind: the model around it.
        data: it is of.
        given: the other arguments of the model around it.
    """
    if key == "prior":
        others = {name: value for name, value in given.items() if not isinstance(value, Call | Model)}
        top = kind(**{**others, "shape": data.shape}).network.shapes[-1]  # type: ignore[union-attr, index]
        return call.kind(shape=top, **{"likelihood": GaussianMixture(), **call.arguments})
    own = {"likelihood": given["likelihood"], "conditioner": Map(channels=MAPS)}
    return call.kind(shape=data.shape, **{**own, **call.arguments})


def check_suits(kind: type[Model], name: str, data: Data) -> None:
    """Raise ValueError where a model is not for examples like those of the data; say which would do."""
    sides = len(data.shape)
    takes = [1, 2, 3] if issubclass(kind, MADE | HierarchicalVAE) else [2] if issubclass(kind, WaveNet) else [3]
    if sides in takes and not (data.recordings and kind is not WaveNet):
        return
    what = "recordings" if data.recordings else f"examples {size_of(data.shape)}"
    kinds = "examples of one size" if len(takes) > 1 else "sequences" if takes == [2] else "pictures"
    would = {1: "made", 2: "wavenet", 3: "gated-pixelcnn"}[sides]
    raise ValueError(f"{name} is for {kinds}, {data.name} holds {what}: {would} would do")


def conditioner_of(kind: type[Model], name: str, data: Data) -> Map | Frames:
    """Return what conditions a model on what it is given of each example; raise ValueError where it takes none."""
    assert data.given is not None
    channels, factor = data.given.channels(data.shape[0]), data.given.factor
    if isinstance(data.given, Mel):
        return Frames(channels=channels, hop=factor)
    if issubclass(kind, MADE) or "conditioner" not in inspect.signature(kind).parameters:
        raise ValueError(f"--given {data.options['given']}: {name} takes no maps; gated-pixelcnn would do")
    return Map(channels=channels, upsample=factor)


def model_named(name: str) -> type[Model]:
    """Return the class of a registered model.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}{nearest(name, MODELS)}; there are {', '.join(MODELS)}")
    return MODELS[name]


def arguments_of(kind: type[Model]) -> dict[str, Any]:
    """Return the arguments of a model that a setting can give, with their types."""
    hints = get_type_hints(kind.__init__)
    return {name: hints[name] for name in inspect.signature(kind).parameters if name not in ("shape", "conditioner")}


def default_likelihood(kind: type[Model], data: Data) -> Likelihood:
    """Return a likelihood that suits the data.

    Continuous values get a mixture of Gaussians, or of logistics where they are dequantized levels; two levels a
    Bernoulli. More levels get a softmax where they are few or have no order (a table), and where a pixel is grey; else
    a mixture of discretized logistics, as for RGB. So do the pictures of a MADE: a softmax would need one input for
    every level of every pixel, and overfits at once.
    """
    levels, shape = data.levels, data.shape
    if levels is None:
        return GaussianMixture() if data.dequantized is None else LogisticMixture()
    if levels == 2:
        return Bernoulli()
    picture_at_once = len(shape) > 1 and issubclass(kind, MADE)
    one_softmax = len(shape) == 1 or shape[0] == 1
    if picture_at_once or (levels > FEW_LEVELS and not (levels <= MOST_LEVELS and one_softmax)):
        return DiscretizedLogisticMixture(levels)
    return Categorical(levels)


def parsed(setting: str, name: str, hints: dict[str, Any], data: Data) -> tuple[str, Any]:
    """Return the name and the value of one setting."""
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals or not text.strip():
        raise ValueError(f"--set {setting}: it takes name=value, such as {next(iter(hints))}=...")
    if key == "shape":
        raise ValueError("--set shape: the data gives the shape (--size or --window brings it to another one)")
    if key not in hints:
        raise ValueError(f"--set {key}: {name} has no such argument{nearest(key, hints)}; it has {', '.join(hints)}")
    if hints[key] is Likelihood:
        return key, likelihood_of(text, data)
    for hint, noun, kinds, such in VALUES:
        if hint is hints[key]:
            call = called(text, f"--set {key}", noun, kinds, such)
            return key, made(call, f"--set {key}")
    if Model in get_args(hints[key]) and literal(text) is not None:
        return key, called(text, f"--set {key}", key, NESTED, "GatedPixelCNN(layers=3, channels=16)", WITHIN)
    fits, value = fitted(literal(text), hints[key])
    if not fits:
        raise ValueError(f"--set {key}={text}: it takes {described(hints[key])}")
    return key, value


def likelihood_of(text: str, data: Data) -> Likelihood:
    """Return the likelihood `Name` or `Name(argument=value, ...)`, with the levels of the data where it needs them."""
    call = called(text, "--set likelihood", "likelihood", LIKELIHOODS, example(data))
    return suited(call.kind, call.arguments, data)


def suited(kind: type[Likelihood], arguments: dict[str, Any], data: Data) -> Likelihood:
    """Return the likelihood with these arguments and the levels of the data."""
    needs_levels = "levels" in inspect.signature(kind).parameters
    if data.levels is not None and arguments.get("levels", data.levels) != data.levels:
        wrong = f"likelihood {kind.__name__}(levels={arguments['levels']})"
        raise ValueError(f"{wrong}: the data has {data.levels} levels; leave levels out")
    if needs_levels and data.levels is not None:
        arguments = {**arguments, "levels": data.levels}
    if needs_levels and "levels" not in arguments:
        raise ValueError(f"likelihood {kind.__name__} is for levels, got {kind_of(data)}: {example(data)} would do")
    likelihood = kind(**arguments)
    if likelihood.levels != data.levels:
        raise ValueError(f"likelihood {kind.__name__} does not fit {kind_of(data)}: {example(data)} would do")
    return likelihood


def kind_of(data: Data) -> str:
    """Return what the values of data are, in words."""
    if data.dequantized is not None:
        return "levels that --dequantize made continuous"
    return "continuous data" if data.levels is None else f"{data.levels} levels"


def example(data: Data) -> str:
    """Return a likelihood that fits the data, as a user would type it."""
    if data.levels is None:
        return f"{'Gaussian' if data.dequantized is None else 'Logistic'}Mixture(components=5)"
    if data.levels == 2:
        return "Bernoulli"
    return "Categorical" if data.levels <= MOST_LEVELS else "DiscretizedLogisticMixture(components=5)"
