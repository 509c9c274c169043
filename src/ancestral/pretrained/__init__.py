"""Small trained models that come with the installation: "pretrained:NAME" stands for a folder in here.

Each folder holds what `ancestral export` writes: how to build the model, its weights, its evaluation and its card.
"""

from difflib import get_close_matches
from pathlib import Path

__all__ = ["CARD", "EVALUATION", "HOME", "PREFIX", "folder_of", "is_pretrained", "name_of", "names"]

PREFIX = "pretrained:"
HOME = Path(__file__).resolve().parent
CARD, EVALUATION = "CARD.md", "evaluation-test.json"


def names() -> tuple[str, ...]:
    """Return the names of the installed models.

    >>> "digits" in names()
    True
    """
    return tuple(sorted(path.parent.name for path in HOME.glob("*/config.json")))


def is_pretrained(run: str | Path) -> bool:
    """Return whether this names an installed model, perhaps one that is not there."""
    return str(run).startswith(PREFIX)


def name_of(run: str | Path) -> str:
    """Return the name of an installed model: that of "pretrained:digits" is "digits"."""
    return str(run).removeprefix(PREFIX)


def folder_of(run: str | Path) -> Path:
    """Return the folder of an installed model, and anything else as it is.

    Args:
        run: a folder, or "pretrained:NAME".

    Raises:
        ValueError: there is no such model.

    >>> folder_of("pretrained:digits").name, folder_of("runs/mine").as_posix()
    ('digits', 'runs/mine')
    """
    if not is_pretrained(run):
        return Path(run)
    name, there = name_of(run), names()
    if name not in there:
        near = get_close_matches(name.lower(), there, n=1, cutoff=0.5)
        hint = f" (did you mean {PREFIX}{near[0]}?)" if near else ""
        raise ValueError(f"{run}: no such model comes with ancestral{hint}; there are {', '.join(there)}")
    return HOME / name
