"""The project as a whole: who may import whom, what an import costs, what a file may hold, what the texts promise."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "ancestral"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Imports point one way: a part may import its own group and those above it in this table.
GROUPS = (
    ("recorded", "files", "machine", "pretrained"),
    ("causal", "conditioning", "distributions", "likelihoods", "data"),
    ("model", "walk", "stream", "capture", "latents"),
    ("models",),
    ("codec", "baselines", "evaluation", "levels", "anomaly"),
    ("objectives", "training", "checkpoint", "runs", "report", "testing"),
    ("recipes",),
    ("cli", "__main__"),
)
RANK = {part: rank for rank, group in enumerate(GROUPS) for part in group}
# Arrays know nothing of networks, nor networks of where arrays come from.
NETWORK = {part for group in GROUPS[1:4] for part in group} - {"data"}
STRANGERS = {"data": NETWORK} | {part: {"data"} for part in NETWORK}

# A model is not made of files, but its users expect model.save_pretrained(folder): methods that pass on, no more.
PASSED_ON = {("model", "checkpoint")}

LONGEST_FILE, LONGEST_FUNCTION = 450, 60
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users|work|workspace|mnt)/[\w.]")


def modules() -> dict[str, Path]:
    """The modules of the package by their dotted names, ancestral.causal.conv for instance."""
    parts = {path: path.relative_to(PACKAGE.parent).with_suffix("").parts for path in SOURCES}
    return {".".join(p[:-1] if p[-1] == "__init__" else p): path for path, p in parts.items()}


def imported(name: str, tree: ast.AST, package: bool) -> Iterator[tuple[int, str]]:
    """The line and absolute dotted name of every import in a module, those in functions and for types too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: len(name.split(".")) - node.level + package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def wrong_imports(name: str, tree: ast.AST, package: bool = False) -> list[str]:
    """The imports of a module that point the wrong way, each as 'who:line imports whom'."""
    here = name.split(".")[1]
    found = []
    for line, target in imported(name, tree, package):
        library, _, rest = target.partition(".")
        there = rest.partition(".")[0]
        if library != "ancestral" or there in ("", "__version__") or (here, there) in PASSED_ON:
            continue
        if RANK.get(there, len(GROUPS)) > RANK[here] or there in STRANGERS.get(here, ()):
            found.append(f"{name}:{line} imports {target}")
    return found


def test_every_part_has_a_rank() -> None:
    parts = {name.split(".")[1] for name in modules() if "." in name}
    assert parts <= set(RANK), f"say in GROUPS which parts may import {sorted(parts - set(RANK))}"


def test_imports_point_one_way() -> None:
    trees = {name: (ast.parse(path.read_text("utf-8")), path) for name, path in modules().items() if "." in name}
    found = [w for name, (tree, path) in trees.items() for w in wrong_imports(name, tree, path.name == "__init__.py")]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "line", "right"),
    [
        ("ancestral.walk", "from ancestral.likelihoods import Bernoulli", True),
        ("ancestral.models.made", "from ancestral.causal.linear import MaskedLinear", True),
        ("ancestral.models.made", "from ..walk import drive", True),
        ("ancestral.models.made", "from . import pixelcnn", True),
        ("ancestral.report", "import torch, ancestral.evaluation", True),
        ("ancestral.causal.conv", "from ancestral.models import MADE", False),
        ("ancestral.causal.conv", "def f():\n    import ancestral.models.made", False),
        ("ancestral.model", "from .training import train", False),
        ("ancestral.model", "from ancestral import training", False),
        ("ancestral.walk", "from ancestral import GatedPixelCNN", False),
        ("ancestral.data.digits", "from ancestral.likelihoods import Bernoulli", False),
        ("ancestral.models.made", "from ancestral.data import digits", False),
    ],
)
def test_the_check_of_imports_sees(name: str, line: str, right: bool) -> None:
    assert (wrong_imports(name, ast.parse(line)) == []) is right


def test_relative_imports_of_a_package_are_resolved() -> None:
    tree = ast.parse("from .made import MADE\nfrom ..training import train")
    assert wrong_imports("ancestral.models", tree, package=True) == [
        "ancestral.models:2 imports ancestral.training.train"
    ]


def test_import_of_the_package_is_light() -> None:
    code = "import sys, ancestral; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {"torch", "matplotlib", "accelerate", "huggingface_hub", "sklearn", "tensorboard", "typer", "numpy", "PIL"}
    assert not loaded & heavy


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = {f"{node.name}, line {node.lineno}": size(node) for node in functions}
    assert not {name: lines for name, lines in sizes.items() if lines > LONGEST_FUNCTION}


def size(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without those of its docstring."""
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    return (function.end_lineno or 0) - function.lineno + 1 - documented * ((first.end_lineno or 0) - first.lineno + 1)


def test_no_path_of_one_machine() -> None:
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs git and a clone, to know which files belong to the project")
    files = [path for path in map(ROOT.joinpath, filter(None, listed.split("\0"))) if path.is_file()]
    found = [f"{path}:{number}: {line.strip()[:100]}" for path in files for number, line in machine_paths(path)]
    assert not found, "\n".join(found)


def machine_paths(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a text file that name a place of one machine; none of a file that is no text."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        return
    yield from ((number, line) for number, line in enumerate(lines, 1) if MACHINE_PATH.search(line))


def test_machine_paths_are_seen(tmp_path: Path) -> None:
    place = "/".join(["", "home", "ada", "digits.npz"])
    text = tmp_path / "text.md"
    text.write_text(f"see {place}\nsee https://example.org{place}\nsee ../shared/data\n", "utf-8")
    assert [number for number, _ in machine_paths(text)] == [1]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert not [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin)]
    extras = [name for group in project()["optional-dependencies"].values() for name in group]
    names = {re.split(r"[^\w.-]", name)[0].replace("_", "-").lower() for name in [*project()["dependencies"], *extras]}
    assert names - {"ancestral"} <= {pin.partition("==")[0] for pin in pins}  # one extra holds another


def test_versions_agree() -> None:
    import ancestral

    assert ancestral.__version__ == project()["version"]


def promised_commands() -> list[str]:
    """The command lines that the texts show in blocks of shell, and those of the Makefile, without their prompt."""
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    blocks = [
        block
        for text in texts
        if text.exists()
        for block in re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", text.read_text("utf-8"), re.M | re.S)
    ]
    recipes = re.findall(r"^\t@?\$\(BIN\)/(ancestral .*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    plain = {line.strip().removeprefix("$ ").removeprefix(".venv/bin/") for line in [*lines, *recipes]}
    return sorted(line for line in plain if line.startswith(("ancestral ", "make ", "python ")))


@pytest.mark.parametrize("line", promised_commands())
def test_promised_commands_exist(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(re.split(r" [|>&;]", line)[0], comments=True)
    if words[:1] == ["make"]:
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
        assert [word for word in words[1:] if "=" not in word and word not in targets] == []
    elif words[:1] == ["python"] and words[1].endswith(".py"):
        assert (ROOT / words[1]).exists()
    elif words[:1] == ["ancestral"] and (PACKAGE / "cli.py").exists():
        assert help_of(words, monkeypatch) == 0, capsys.readouterr().err


def help_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status of a command with --help added: it parses every option, then helps instead of doing it."""
    from ancestral.cli import main

    monkeypatch.setattr(sys, "argv", [*words, "--help"])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
