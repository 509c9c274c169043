"""The pages of the models: each model has one, and what it says of arguments and commands is so."""

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import ancestral
from ancestral.cli import app
from ancestral.cli.settings import arguments_of, parsed
from ancestral.data import load
from ancestral.models import MODELS

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "models"
ROW = re.compile(r"^\| `(\w+)` \| (?:`(.+?)`)? ?\| .+ \|$", re.M)
MOST_BYTES = 40_000  # of a figure


def page_of(name: str) -> Path:
    return FOLDER / f"{name.replace('+', 'p')}.md"


def commands(name: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a page, each with its words."""
    for block in re.findall(r"^```sh\n(.*?)^```", page_of(name).read_text("utf-8"), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            program, command, *words = shlex.split(line, comments=True)
            assert program == "ancestral"
            yield command, words


def test_every_model_has_a_page_and_no_other_has() -> None:
    pages = {path.stem for path in FOLDER.glob("*.md")} - {"index"}
    assert pages == {page_of(name).stem for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_its_figure_and_stands_in_the_index(name: str) -> None:
    page = page_of(name)
    figure = page.with_suffix(".png")
    assert 0 < figure.stat().st_size < MOST_BYTES
    assert f"]({figure.name})" in page.read_text("utf-8")
    index = (FOLDER / "index.md").read_text("utf-8")
    assert f"| [{MODELS[name].__name__}]({page.name}) |" in index
    assert f"\n{page.stem}\n" in index.partition("```{toctree}")[2]


@pytest.mark.parametrize("name", MODELS)
def test_arguments_are_those_of_the_constructor(name: str) -> None:
    """Their names, all of them and in its order, and their defaults."""
    rows = ROW.findall(page_of(name).read_text("utf-8"))
    parameters = inspect.signature(MODELS[name]).parameters
    assert [argument for argument, _ in rows] == list(parameters)
    for argument, default in rows:
        if default:
            said = eval(default, {kind: getattr(ancestral, kind) for kind in ancestral.__all__})
            assert said == parameters[argument].default, argument
            assert type(said) is type(parameters[argument].default), argument
        else:
            assert parameters[argument].default is inspect.Parameter.empty, argument


@pytest.mark.parametrize("name", MODELS)
def test_commands_parse_to_the_last_value(name: str) -> None:
    """Options with their values, and each setting by the model's own arguments; one command trains the model."""
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    data = load("digits")
    trained = []
    for command, words in commands(name):
        context = known[command].make_context(command, list(words))
        if command == "train":
            trained.append(context.params["model"])
            settings = [*(context.params["settings"] or ()), *(context.params["more"] or ())]
            for setting in settings:
                parsed(setting, name, arguments_of(MODELS[name]), data)
    assert trained
    assert set(trained) == {name}
