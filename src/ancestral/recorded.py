"""Objects that remember the arguments they were built with: their arguments are their configuration."""

import inspect
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
