"""`train --recipe`: what a recipe gives, where the user has not said otherwise."""

from collections.abc import Collection
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import typer

from ancestral.cli.settings import Start, begun, default_likelihood, differing
from ancestral.cli.values import nearest
from ancestral.data import Data
from ancestral.likelihoods import Likelihood
from ancestral.recipes import RECIPES, Recipe
from ancestral.report.words import data_line, shown, size_of, values_of
from ancestral.runs import run_config

__all__ = ["begun_by", "check_recipe_of", "checksum_line", "recipe_line", "recipe_named", "recipe_rows", "training_by"]

LIMITS = ("epochs", "steps", "minutes")
RESHAPING = ("size", "bits", "binarize")  # options with which data is no longer what the recipe says


def recipe_named(name: str) -> Recipe:
    """Return a recipe.

    Raises:
        ValueError: there is none of that name; the nearest is said.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}{nearest(name, RECIPES)}; `ancestral recipes` lists them")
    return RECIPES[name]()


def recipe_line(name: str, recipe: Recipe) -> str:
    """Return the number that was reported, and what is not as it was there, in one line."""
    line = f"{name}: reported {recipe.expected} ({recipe.expected.source})"
    return f"{line}; here: {recipe.differs}" if recipe.differs else line


def recipe_rows(recipe: Recipe) -> list[tuple[str, str]]:
    """Return everything that a recipe says, by what it is about."""
    wanted, has = recipe.data, f"{size_of(recipe.data.shape)} of {values_of(recipe.data.levels)}"
    return [
        ("model", f"{recipe.model}, {recipe.parameters():,} parameters"),
        ("--set", " ".join(f"{name}={shown(value)}" for name, value in recipe.arguments.items())),
        ("data", f"{wanted.name}, {has}" + (f", --binarize {wanted.binarize}" if wanted.binarize else "")),
        ("from", wanted.where),
        *([("checksum", wanted.checksum)] if wanted.checksum else []),
        ("training", ", ".join(f"{name} {how(value)}" for name, value in recipe.training.items())),
        ("reported", f"{recipe.expected} ({recipe.expected.source})"),
        ("here", recipe.differs or "nothing is known to differ"),
    ]


def how(value: float | str) -> str:
    """Return a value of a training: a number with its thousands apart, or the name of a loss."""
    return value if isinstance(value, str) else f"{value:,g}"


def checksum_line(recipe: Recipe, data: Data) -> str | None:
    """Return that data holds other examples than those of the reported number; None where nothing shows it."""
    found, wanted = recipe.data.differing(data), recipe.data.checksum
    if found is None:
        return None
    return f"other examples than those of the reported number: checksum {found}, theirs is {wanted}"


def begun_by(
    name: str, recipe: Recipe, source: str | None, settings: list[str], options: dict[str, Any], seed: int
) -> Start:
    """Return what a new run of a recipe starts from; see `settings.begun`.

    Raises:
        ValueError: data that is not what the recipe wants.
        typer.BadParameter: it needs data of the user, and no source is given.
    """
    wanted = recipe.data
    if source is None and wanted.source is None:
        has = f"{size_of(wanted.shape)} of {values_of(wanted.levels)}"
        raise typer.BadParameter(f"--data FILE is missing: {name} wants {wanted.name}, {has}: {wanted.where}")
    changed = [option for option in RESHAPING if options[option] is not None]
    options = {**options, "binarize": options["binarize"] or wanted.binarize}

    def arguments(data: Data) -> dict[str, Any]:
        check_wanted(name, recipe, data, changed)
        return {**recipe.arguments, "likelihood": likelihood_for(recipe, data)}

    return begun(recipe.model, source or str(wanted.source), settings, options, seed, arguments)


def check_wanted(name: str, recipe: Recipe, data: Data, changed: Collection[str] = ()) -> None:
    """Raise ValueError where data is not what a recipe wants, and no option says that it is meant.

    Args:
        name: of the recipe.
        recipe: what wants it.
        data: what there is.
        changed: options that were given: size is for height and width, bits and binarize are for levels. Nothing is
            for the number of channels or columns, or makes continuous values of levels.
    """
    wanted, meant = recipe.data, []
    if data.shape[1:] != wanted.shape[1:] and "size" not in changed:
        meant.append("--size")
    if data.discrete != wanted.levels and not {"bits", "binarize"}.intersection(changed):
        meant.append("--bits or --binarize")
    alike = len(data.shape) == len(wanted.shape) and data.shape[0] == wanted.shape[0]
    alike &= (data.discrete is None) == (wanted.levels is None)
    if meant or not alike:
        wants = f"{name} wants {wanted.name}, examples {size_of(wanted.shape)} of {values_of(wanted.levels)}"
        hint = f" ({' and '.join(meant)} would say that it is meant)" if alike else ""
        raise ValueError(f"{wants}, got {data_line(data)}{hint}")


def likelihood_for(recipe: Recipe, data: Data) -> Likelihood:
    """Return the recipe's likelihood, with the levels that the data has where the user has changed them.

    Where it cannot have these it is the default one, with as many components where both have some.
    """
    likelihood: Any = recipe.arguments["likelihood"]
    if likelihood.levels == data.levels:
        return likelihood
    if data.levels is not None and "levels" in names_of(likelihood):
        return replace(likelihood, levels=data.levels)
    other: Any = default_likelihood(recipe.kind, data)
    if "components" in names_of(likelihood) and "components" in names_of(other):
        return replace(other, components=likelihood.components)
    return other


def names_of(likelihood: Any) -> list[str]:
    """Return the names of the fields of a likelihood, none where it is no dataclass."""
    return [field.name for field in fields(likelihood)] if is_dataclass(likelihood) else []


def training_by(recipe: Recipe, given: dict[str, Any]) -> dict[str, Any]:
    """Return how long and how a new run of a recipe is trained: what is given first, one limit only."""
    limited = any(given[limit] is not None for limit in LIMITS)
    own = {key: value for key, value in recipe.training.items() if not (limited and key in LIMITS)}
    return given | {key: value for key, value in own.items() if given[key] is None}


def check_recipe_of(out: Path, name: str | None) -> None:
    """Raise ValueError where the run in a folder is not of the recipe, if one is named."""
    recorded = (run_config(out).get("recipe") or {}).get("name", "no recipe")
    if name is not None and recorded != name:
        raise ValueError(differing(f"--recipe {name}", recorded, out))
