"""What a user writes on a command line, as values: `12`, `500,500`, `null`, `Dense(hidden=(200, 100), layers=2)`.

A value is a literal of Python or JSON (a number, a tuple, true, false, null), or an object of this library by its
name, with such values in parentheses if need be. Nothing is ever evaluated.
"""

import ast
import types
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

__all__ = ["Call", "called", "described", "fitted", "literal", "made", "nearest"]

SAID = ("return", "shape", "conditioner", "classes")  # what no value on a command line says: its place does
WORDS = {"true": True, "false": False, "null": None, "none": None}


class Call(NamedTuple):
    """`Name(argument=value)` of a registered class: the class, and its arguments by name."""

    kind: type[Any]
    arguments: dict[str, Any]


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


def called(
    text: str,
    option: str,
    noun: str,
    kinds: Mapping[str, type[Any]],
    example: str,
    within: Mapping[str, Mapping[str, type[Any]]] | None = None,
) -> Call:
    """Return what `Name` or `Name(argument=value, ...)` means.

    Args:
        text: as it was typed.
        option: where it was typed, for errors: "--set likelihood".
        noun: what it names, for errors: "likelihood".
        kinds: the classes by name.
        example: what could be typed.
        within: arguments that are themselves a `Name(...)`, and the classes of these.

    Raises:
        ValueError: it is no such name, or the arguments do not fit.
    """
    call = named_call(text)
    if call is None:
        raise ValueError(f"{option}={text}: it takes a name, or Name(argument=value), such as {example}")
    name, values, named = call
    if name not in kinds:
        raise ValueError(f"unknown {noun} {name!r}{nearest(name, kinds)}; there are {', '.join(kinds)}")
    inner = {key: objects for key, objects in (within or {}).items() if key in named}
    built = {}
    for key, objects in inner.items():
        part = called(named.pop(key), f"{option}: {key}", key, objects, f"{next(iter(objects))}(...)")
        built[key] = made(part, f"{option}: {key}")
    return Call(kinds[name], by_name(kinds[name], f"{noun} {name}", values, named) | built)


def made(call: Call, option: str) -> Any:
    """Return the object that was typed, or raise ValueError where it lacks an argument."""
    try:
        return call.kind(**call.arguments)
    except TypeError as error:
        raise ValueError(f"{option}: {call.kind.__name__}: {str(error).partition('() ')[2]}") from error


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


def by_name(kind: type[Any], who: str, values: list[str], named: dict[str, str]) -> dict[str, Any]:
    """Return the arguments of a class by their names, of the types that they have.

    Raises:
        ValueError: there is none of that name, one is given twice, they are too many, or one has another type.
    """
    hints = {key: hint for key, hint in get_type_hints(kind.__init__).items() if key not in SAID}
    has = f"it has {', '.join(hints)}" if hints else "it has none"
    if len(values) > len(hints):
        raise ValueError(f"{who} takes no {len(values)} arguments; {has}")
    texts = dict(zip(hints, values, strict=False))
    for key, text in named.items():
        if key not in hints:
            raise ValueError(f"{who} has no argument {key!r}{nearest(key, hints)}; {has}")
        if key in texts:
            raise ValueError(f"{who}: {key} is given twice, as {texts[key]} and as {text}")
        texts[key] = text
    found = {key: fitted(literal(text), hints[key]) for key, text in texts.items()}
    for key, (fits, _) in found.items():
        if not fits:
            raise ValueError(f"{who}: {key}={texts[key]}: it takes {described(hints[key])}")
    return {key: value for key, (_, value) in found.items()}


def nearest(word: str, words: Any) -> str:
    """Return " (did you mean 'x'?)" for the nearest of the words, or nothing where none is near."""
    by_lower = {w.lower(): w for w in words}
    near = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""
