"""The documentation: what it links to exists, commands it shows can be typed, code it shows runs."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ancestral import models
from ancestral.cli import app

HERE = Path(__file__).resolve().parent.parent
PAGES = sorted([HERE / "README.md", HERE / "CONTRIBUTING.md", *(HERE / "docs").rglob("*.md")])
PAGES = [page for page in PAGES if "_generated" not in page.parts]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
RUN_ALL = ("concepts.md", "adding-a-model.md", "getting-started.md")
RUN_EACH = sorted((HERE / "docs" / "models").glob("*.md"))


def named(page: Path) -> str:
    return page.relative_to(HERE).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(page.read_text("utf-8")) if kind == language]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_and_pictures_are_there(page: Path) -> None:
    for target in LINK.findall(BLOCK.sub("", page.read_text("utf-8"))):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), target


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command line that is shown, without what stands for more words."""
    for code in blocks(page, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["ancestral"]:
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_can_be_typed(page: Path) -> None:
    known: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, *words in commands(page):
        if name.startswith("-") or not name.islower():
            continue  # of the program itself, or COMMAND
        assert name in known, name
        options = {option for parameter in known[name].params for option in parameter.opts} | {"--help"}
        for word in words:
            if word.startswith("-") and not word[1:2].isdigit():
                assert word.partition("=")[0] in options, f"{name} {word}"


@pytest.mark.parametrize("name", RUN_ALL)
def test_code_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registered = dict(models.MODELS)
    code = "\n".join(blocks(HERE / "docs" / name, "python"))
    assert code
    try:
        exec(compile(code, name, "exec"), {"__name__": "page"})
    finally:
        models.MODELS.clear()
        models.MODELS.update(registered)


@pytest.mark.parametrize("page", RUN_EACH, ids=named)
def test_code_of_the_models_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(page, "python"))
    exec(compile(code, page.name, "exec"), {"__name__": "page"})


def test_every_page_is_in_the_site() -> None:
    """A page that no table of contents names is one that nobody finds."""
    listed = set()
    for page in PAGES:
        for toctree in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
            lines = [line for line in toctree.splitlines() if line and not line.startswith(":")]
            names = [line.partition("<")[2].removesuffix(">") or line for line in lines]
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    pages = {page for page in PAGES if "docs" in page.parts} - {HERE / "docs" / "index.md"}
    assert pages == listed
