"""What a user writes on a command line, as arguments of a model: `layers=12`, `hidden=500,500`, `likelihood=Name(...)`.

A value is a literal of Python or JSON (a number, a tuple, true, false, null), or a likelihood of this library by its
name, with such values in parentheses if need be. Nothing is ever evaluated, and levels are those of the data.
"""

import ast
import inspect
import types
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import torch

from ancestral.checkpoint import build, describe
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
    "model_named",
    "nearest",
    "resumed",
]

LIKELIHOODS: dict[str, type[Likelihood]] = {
    kind.__name__: kind
    for kind in (Bernoulli, Categorical, DiscretizedLogisticMixture, LogisticMixture, GaussianMixture)
}
WORDS = {"true": True, "false": False, "null": None, "none": None}
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
        likelihood = model.arguments["likelihood"]
        key, value = parsed(setting, registered(model), arguments_of(type(model)), data, likelihood)
        if describe(value) != describe(model.arguments[key]):
            raise ValueError(differing(f"--set {setting}", model.arguments[key], out))
    return Start(registered(model), model, data)


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
    for setting in sorted(settings, key=lambda setting: not setting.strip().startswith("likelihood")):
        key, value = parsed(setting, name, hints, data, given["likelihood"])
        given[key] = value
    if data.given is not None and given.get("classes") is not None:
        raise ValueError(
            f"--set classes={given['classes']}: the model is given {data.given.words}; leave one of them out"
        )
    return kind(shape=data.shape, **given)


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


def nearest(word: str, words: Any) -> str:
    """Return " (did you mean 'x'?)" for the nearest of the words, or nothing where none is near."""
    by_lower = {w.lower(): w for w in words}
    near = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def parsed(setting: str, name: str, hints: dict[str, Any], data: Data, likelihood: Likelihood) -> tuple[str, Any]:
    """Return the name and the value of one setting, of a model with that likelihood."""
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
    if key == "decoder" and text.strip().lower() not in WORDS:
        return key, decoder_of(text, data, likelihood)
    fits, value = fitted(literal(text), hints[key])
    if not fits:
        raise ValueError(f"--set {key}={text}: it takes {described(hints[key])}")
    return key, value


def literal(text: str) -> Any:
    """Return the value of a literal, or the text itself where it is none."""
    if text.strip().lower() in WORDS:
        return WORDS[text.strip().lower()]
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError):
        return text


def fitted(value: Any, hint: Any) -> tuple[bool, Any]:
    """Say whether a value is of a type; return it too: one number becomes a tuple, a list one, where one is wanted."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        tries = [fitted(value, part) for part in parts]
        return next((found for found in tries if found[0]), (False, value))
    if origin is tuple:
        items = tuple(value) if isinstance(value, tuple | list) else (value,)
        return all(fitted(item, parts[0])[0] for item in items), items
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool), value
    return type(value) is hint, value


def described(hint: Any) -> str:
    """Return the type in words."""
    words = {int: "an integer", float: "a number", bool: "true or false", type(None): "null", str: "a word"}
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(described(part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        return "numbers separated by commas"
    return words.get(hint, str(hint))


def likelihood_of(text: str, data: Data) -> Likelihood:
    """Return the likelihood `Name` or `Name(argument=value, ...)`, with the levels of the data where it needs them."""
    call = named_call(text)
    if call is None:
        raise ValueError(f"--set likelihood={text}: it takes a name, or Name(argument=value), such as {example(data)}")
    name, values, arguments = call
    if name not in LIKELIHOODS:
        raise ValueError(f"unknown likelihood {name!r}{nearest(name, LIKELIHOODS)}; there are {', '.join(LIKELIHOODS)}")
    kind = LIKELIHOODS[name]
    hints = {key: hint for key, hint in get_type_hints(kind.__init__).items() if key != "return"}
    return suited(kind, by_name(f"likelihood {name}", hints, values, arguments), data)


def decoder_of(text: str, data: Data, likelihood: Likelihood) -> Model:
    """Return the decoder `Name` or `Name(argument=value, ...)` of examples of the data, told maps if nothing else.

    Its `conditioner` is Map(channels=F) or Vector(features=F): what latents are decoded to.
    """
    kinds, call = {kind.__name__: kind for kind in MODELS.values() if kind.exact}, named_call(text)
    if call is None:
        raise ValueError(f"--set decoder={text}: it takes a model, such as GatedPixelCNN(layers=3, channels=16)")
    name, values, arguments = call
    if name not in kinds:
        raise ValueError(
            f"--set decoder={text}: unknown decoder {name!r}{nearest(name, kinds)}; there are {', '.join(kinds)}"
        )
    told = conditioner_named(arguments.pop("conditioner", f"Map(channels={MAPS})"))
    hints = {key: hint for key, hint in arguments_of(kinds[name]).items() if key not in ("likelihood", "classes")}
    given = by_name(f"decoder {name}", hints, values, arguments)
    return kinds[name](shape=data.shape, likelihood=likelihood, conditioner=told, **given)


def conditioner_named(text: str) -> Map | Vector:
    """Return the conditioner `Map(...)` or `Vector(...)`."""
    kinds: dict[str, type[Map] | type[Vector]] = {"Map": Map, "Vector": Vector}
    name, values, arguments = named_call(text) or ("", [], {})
    if name not in kinds:
        raise ValueError(f"--set decoder: conditioner must be Map(channels=F) or Vector(features=F), got {text}")
    hints = {key: hint for key, hint in get_type_hints(kinds[name].__init__).items() if key != "return"}
    given = by_name(f"conditioner {name}", hints, values, arguments)
    needed = next(iter(hints))
    if needed not in given:
        raise ValueError(f"--set decoder: conditioner {name} needs {needed}, such as {name}({needed}=16)")
    return kinds[name](**given)


def named_call(text: str) -> tuple[str, list[str], dict[str, str]] | None:
    """Return the name, the values and the named values of `Name` or `Name(value, argument=value)`, as they are typed.

    Of anything else, None.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (ValueError, SyntaxError):
        return None
    function, values, named = (tree.func, tree.args, tree.keywords) if isinstance(tree, ast.Call) else (tree, [], [])
    if not isinstance(function, ast.Name):
        return None
    return function.id, [ast.unparse(value) for value in values], {str(k.arg): ast.unparse(k.value) for k in named}


def by_name(what: str, hints: dict[str, Any], values: list[str], named: dict[str, str]) -> dict[str, Any]:
    """Return arguments by their names, of the types that they have.

    Args:
        what: whose they are, for errors.
        hints: the types of all arguments, in their order.
        values: the first ones, as they are typed.
        named: others.

    Raises:
        ValueError: there is none of that name, one is given twice, they are too many, or one has another type.
    """
    has = f"it has {', '.join(hints)}" if hints else "it has none"
    if len(values) > len(hints):
        raise ValueError(f"{what} takes no {len(values)} arguments; {has}")
    texts = dict(zip(hints, values, strict=False))
    for key, text in named.items():
        if key not in hints:
            raise ValueError(f"{what} has no argument {key!r}{nearest(key, hints)}; {has}")
        if key in texts:
            raise ValueError(f"{what}: {key} is given twice, as {texts[key]} and as {text}")
        texts[key] = text
    found = {key: fitted(literal(text), hints[key]) for key, text in texts.items()}
    for key, (fits, _) in found.items():
        if not fits:
            raise ValueError(f"{what}: {key}={texts[key]}: it takes {described(hints[key])}")
    return {key: value for key, (_, value) in found.items()}


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
