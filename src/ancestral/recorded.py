"""Objects that remember the arguments they were built with: their arguments are their configuration."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Self


class Recorded:
    """Mixin: `arguments` holds every keyword argument of the constructor, defaults included."""

    arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        object.__setattr__(self, "arguments", bound(cls, args, kwargs))  # a plain setattr is Module's, not ready yet
        return self


def bound(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with defaults filled in, or what was given where it does not fit: __init__ will say so."""
    try:
        arguments = inspect.signature(cls).bind(*args, **kwargs)
    except TypeError:
        return dict(kwargs)
    arguments.apply_defaults()
    return dict(arguments.arguments)


def description(value: Any, name_of: Callable[[type[Any]], str] = lambda cls: cls.__name__) -> Any:
    """Return an object as JSON: its class and arguments, recursively.

    Args:
        value: a `Recorded` object, a dataclass, or plain data.
        name_of: what a class is called.

    Raises:
        ValueError: an argument is neither such an object nor plain data.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [description(item, name_of) for item in value]
    if isinstance(value, Recorded):
        arguments = value.arguments
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        arguments = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    else:
        raise ValueError(f"cannot record an argument of type {type(value).__name__}: a checkpoint could not rebuild it")
    told = {name: description(item, name_of) for name, item in arguments.items()}
    return {"class": name_of(type(value)), "arguments": told}
