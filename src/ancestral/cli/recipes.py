"""`train --recipe`: what a recipe gives, where the user has not said otherwise."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import typer

from ancestral.cli.settings import Start, begun, default_likelihood, differing, nearest
from ancestral.data import Data
from ancestral.recipes import RECIPES, Recipe
from ancestral.report.words import data_line, size_of
from ancestral.runs import run_config

__all__ = ["begun_by", "check_recipe_of", "recipe_named", "training_by"]

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


def begun_by(name: str, source: str | None, settings: list[str], options: dict[str, Any], seed: int) -> Start:
    """Return what a new run of a recipe starts from; see `settings.begun`.

    Raises:
        ValueError: an unknown recipe, or data that is not what it wants.
        typer.BadParameter: it needs data of the user, and no source is given.
    """
    recipe = recipe_named(name)
    wanted = recipe.data
    if source is None and wanted.source is None:
        has = f"{size_of(wanted.shape)} of {wanted.levels} levels"
        raise typer.BadParameter(f"--data FILE is missing: {name} wants {wanted.name}, {has}: {wanted.where}")
    changed = [option for option in RESHAPING if options[option] is not None]
    options = {**options, "binarize": options["binarize"] or wanted.binarize}

    def arguments(data: Data) -> dict[str, Any]:
        if not changed:
            check_wanted(name, recipe, data)
        return {**recipe.arguments, "likelihood": suited(recipe, data)}

    return begun(recipe.model, source or str(wanted.source), settings, options, seed, arguments)


def check_wanted(name: str, recipe: Recipe, data: Data) -> None:
    """Raise ValueError where data has another shape, or other levels, than a recipe wants."""
    wanted = recipe.data
    if (data.shape, data.discrete) != (wanted.shape, wanted.levels):
        wants = f"{name} wants {wanted.name}, examples {size_of(wanted.shape)} of {wanted.levels} levels"
        raise ValueError(f"{wants}, got {data_line(data)} (--size, --bits or --binarize would say that it is meant)")


def suited(recipe: Recipe, data: Data) -> Any:
    """Return the recipe's likelihood, with the levels that the data has where the user has changed them."""
    likelihood = recipe.arguments["likelihood"]
    if likelihood.levels == data.levels:
        return likelihood
    has_levels = is_dataclass(likelihood) and "levels" in [field.name for field in fields(likelihood)]
    if has_levels and data.levels is not None:
        return replace(likelihood, levels=data.levels)
    return default_likelihood(recipe.kind, data)


def training_by(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return how long and how a new run of a recipe is trained: what is given first, one limit only."""
    recipe = recipe_named(name)
    limited = any(given[limit] is not None for limit in LIMITS)
    own = {key: value for key, value in recipe.training.items() if not (limited and key in LIMITS)}
    return given | {key: value for key, value in own.items() if given[key] is None}


def check_recipe_of(out: Path, name: str) -> None:
    """Raise ValueError where the run in a folder is not of the recipe."""
    recipe_named(name)
    recorded = (run_config(out).get("recipe") or {}).get("name", "no recipe")
    if recorded != name:
        raise ValueError(differing(f"--recipe {name}", recorded, out))
