"""How Sphinx builds the documentation: `make docs`, with warnings as errors; offline."""

import inspect
import re
from pathlib import Path
from typing import Any

import typer
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator as HTMLTranslator

import ancestral

HERE = Path(__file__).resolve().parent
COMMANDS = HERE / "_generated" / "commands.md"  # written anew by each build

project = "Ancestral"
author = "The Ancestral authors"
project_copyright = author
version = release = ancestral.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_generated"]
suppress_warnings = ["misc.highlighting_failure"]  # a table of a terminal is no code

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
smartquotes = False  # --option stays as it is typed

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # the fields of a named tuple are said once

html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"Ancestral {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"


def described(name: str, command: Any) -> list[str]:
    """Return the section of a command: what it does, and a table of what it takes."""
    lines = [f"## {name}", "", inspect.cleandoc(command.help or ""), "", f"| `ancestral {name}` | |", "| --- | --- |"]
    for parameter in command.params:
        if "--help" not in parameter.opts and not parameter.hidden:
            words = " ".join((parameter.help or "").split()).replace("|", "\\|").replace("<", "\\<")
            lines.append(f"| `{written(command, parameter)}` | {words} |")
    return [*lines, ""]


def written(command: Any, parameter: Any) -> str:
    """Return how an option or an argument is typed."""
    if not parameter.opts[0].startswith("-"):
        return parameter.metavar or parameter.name.upper()
    flags = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return flags
    return f"{flags} {parameter.metavar or parameter.display_type(typer.Context(command))}".replace("|", "\\|")


def write_commands(app: Sphinx) -> None:
    """Write what every command takes, from the commands themselves."""
    from ancestral.cli import app as cli

    group = typer.main.get_command(cli)
    lines = [line for name, command in group.commands.items() for line in described(name, command)]
    COMMANDS.parent.mkdir(exist_ok=True)
    COMMANDS.write_text("\n".join(lines), "utf-8")


def as_restructured(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Turn the docstrings' Markdown into reStructuredText: `code`, and signs of mathematics that are no markup."""
    for i, line in enumerate(lines):
        parts = line.split("`")
        if len(parts) % 2 == 0 or line.lstrip().startswith((">>>", "...")):
            continue  # code that goes on in the next line, or a doctest
        bullet = re.match(r" *(\* )?", line)[0]
        plain = [re.sub(r"([*|])", r"\\\1", part) for part in [parts[0][len(bullet) :], *parts[2::2]]]
        plain = [re.sub(r"(?<=\w)_(?!\w)", r"\_", part) for part in plain]
        code = [f"``{part}``" for part in parts[1::2]]
        lines[i] = bullet + "".join(part for pair in zip(plain, [*code, ""], strict=True) for part in pair)


def is_field(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leave out the fields of named tuples, which their class describes."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def as_called(
    app: Sphinx, what: str, name: str, obj: Any, options: object, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Say the arguments of a constructor, where `__new__` notes whatever they are."""
    if what != "class" or "__init__" not in vars(obj):
        return None
    found = inspect.signature(obj.__init__)
    return str(found.replace(parameters=list(found.parameters.values())[1:], return_annotation=found.empty)), None


def write_inline(self: HTMLTranslator, node: nodes.math) -> None:
    """Write a formula as MathML, which browsers draw by themselves: no script, no network."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def write_block(self: HTMLTranslator, node: nodes.math_block) -> None:
    """Write a formula in lines of its own."""
    self.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connect what is above to the build."""
    app.connect("builder-inited", write_commands)
    app.connect("autodoc-process-docstring", as_restructured, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", as_called)
    app.connect("autodoc-skip-member", is_field)
    app.add_html_math_renderer("mathml", inline_renderers=(write_inline, None), block_renderers=(write_block, None))
