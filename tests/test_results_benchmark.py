"""The results of recipes: the document is what the JSON says, rows are of the recipes, runs go on and are skipped."""

import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ancestral.data import load
from ancestral.data.dataset import SPLITS
from ancestral.recipes import GPU, RECIPES, Recipe
from ancestral.training.resuming import fingerprint
from calls import Call
from datafiles import npz

NEAR = {  # nats
    "adult-made": 0.15,
    "connect4-made": 0.15,
    "mushrooms-made": 0.15,
    "dna-made": 1.5,
    "nips-made": 3.0,
    "nips-made-masks": 3.0,
    "mnist-made-one-mask": 0.5,
}
LONG = 300  # seconds of a run, of which one seed may have to do
SPREAD = {"connect4-made": 0.03}  # nats between seeds: 47,557 test rows make the standard error of one run smaller


@pytest.fixture
def result(root: Path) -> dict[str, Any]:
    return json.loads((root / "results" / "recipes.json").read_text("utf-8"))


@pytest.fixture
def benchmark(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module benchmarks/results.py."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    for name in ("results", "results_table", "models", "models_table", "machine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import results

    return results


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recipe:
    """The recipe of nips in a blink, and FOLDER/nips.npz as it wants it."""
    x = np.random.default_rng(0).integers(2, size=(60, 5), dtype=np.uint8)
    path, recipe = npz(tmp_path / "nips.npz", train=x[:40], valid=x[40:50], test=x[50:]), RECIPES["nips-made"]()
    data = dataclasses.replace(recipe.data, shape=(5,), checksum=fingerprint(load(path), SPLITS))
    training = {"steps": 3, "batch_size": 20}
    small = dataclasses.replace(recipe, data=data, training=training, arguments={**recipe.arguments, "hidden": (4,)})
    monkeypatch.setitem(RECIPES, "nips-made", lambda: small)
    return small


def follow(benchmark: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, *more: object, data: Path) -> list[Any]:
    """Follow the recipe of nips with one seed; return the rows."""
    out = ["--json", folder / "r.json", "--runs", folder / "runs", "--seeds", 3, "--data", data, *more]
    monkeypatch.setattr(sys, "argv", ["results.py", "--recipes", "nips-made", *map(str, out)])
    benchmark.main()
    path = folder / "r.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def test_the_document_is_what_the_json_says(root: Path, benchmark: Any, result: dict[str, Any]) -> None:
    assert (root / "docs" / "results.md").read_text("utf-8") == benchmark.page(result), "make tables"


def test_every_table_has_its_rows(benchmark: Any, result: dict[str, Any]) -> None:
    names = [name for name, recipe in RECIPES.items() if recipe().quick]
    assert set(names) >= set(NEAR)
    for name in names:
        jobs = [benchmark.Job(name, seed, None) for seed in benchmark.SEEDS]
        known = [job for job in jobs if job.known(result["rows"])]
        assert known, f"make results: {name}"
        seconds = max(row["seconds"] for row in result["rows"] if row["recipe"] == name)
        assert len(known) == len(jobs) or seconds > LONG, f"make results: {name}, all seeds"


def test_figures_are_those_reported(result: dict[str, Any]) -> None:
    for name, recipe in RECIPES.items():
        rows = [row for row in result["rows"] if row["recipe"] == name]
        if not rows:
            continue
        expected = recipe().expected
        key = "nats" if expected.unit == "nats" else "bits_per_dim"
        found = [row[key] for row in rows]
        apart = max(found) - min(found)
        assert apart <= max(2 * min(row[f"{key}_se"] for row in rows), SPREAD.get(name, 0)), name
        if name in NEAR:
            assert max(found) <= expected.value + NEAR[name], name
        elif name not in GPU:
            assert expected.source.startswith("results/recipes.json")
            assert statistics.fmean(found) == pytest.approx(expected.value, abs=0.005), name


def test_a_row_is_measured_once(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, call: Call, tmp_path: Path, tiny: Recipe
) -> None:
    said: list[list[str]] = []

    def ancestral(words: list[str], threads: int, limit: float | None = None) -> tuple[dict[str, Any], float]:
        said.append(words)
        if words[0] == "evaluate" and len(said) == 2:
            raise RuntimeError("killed")
        return call(*words, "--json").json, 0.0

    monkeypatch.setattr(benchmark, "ancestral", ancestral)
    with pytest.raises(SystemExit):
        follow(benchmark, monkeypatch, tmp_path, data=tmp_path)
    (row,) = follow(benchmark, monkeypatch, tmp_path, data=tmp_path)
    assert [words[0] for words in said] == ["train", "evaluate"] * 2
    assert "--resume" in said[2]
    assert "--resume" not in said[0]
    assert row["command"] == "ancestral train --recipe nips-made --data nips.npz --out RUN --seed 3"
    assert row["steps"] == 3
    assert row["training"] == tiny.training
    assert row["exact"] is True
    assert row["count"] == 10
    assert 0 < row["nats"] < 6
    assert row["checksum"] == tiny.data.checksum
    assert f"{row['nats']:.3f} ± {row['nats_se']:.3f} nats" in benchmark.page({"rows": [row]})

    assert follow(benchmark, monkeypatch, tmp_path, data=tmp_path) == [row]
    assert len(said) == 4
    follow(benchmark, monkeypatch, tmp_path, "--again", data=tmp_path)
    assert len(said) == 6
    assert "--resume" not in said[4]


def test_data_that_is_missing_or_other_is_said(
    benchmark: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny: Recipe,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(benchmark, "ancestral", lambda *words: pytest.fail("trained"))
    follow(benchmark, monkeypatch, tmp_path, data=tmp_path / "nowhere")
    assert "nips-made: skipped: no " in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    for rows, says in ((9, "9 examples are too few"), (20, "holds other examples: checksum ")):
        npz(tmp_path / "other" / "nips.npz", train=np.eye(rows, 5, dtype=np.uint8))
        follow(benchmark, monkeypatch, tmp_path, data=tmp_path / "other")
        assert says in capsys.readouterr().err


def test_a_row_is_known_by_what_was_followed(benchmark: Any, tiny: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    job = benchmark.Job("nips-made", 0, None)
    row = {"recipe": "nips-made", "seed": 0, **job.identity, "nats": 1.0}
    assert job.known([row])
    assert not job._replace(seed=1).known([row])
    folder, changed = job.folder, dataclasses.replace(tiny, training={"steps": 4})
    monkeypatch.setitem(RECIPES, "nips-made", lambda: changed)
    assert not job.known([row])
    assert job.folder != folder


def test_rows_without_reported_figures_have_a_table_of_their_own(benchmark: Any) -> None:
    machine = {"cpu": "a CPU", "cores": 2, "threads": 1, "ancestral": "0", "torch": "2", "date": "2026-01-01"}
    found = {"nats": 3.0, "nats_se": 0.1, "seconds": 5.0, "parameters": 7, "masks": None, "exact": True}
    rows = [
        {"recipe": name, "seed": seed, "reported": {"value": 3.5, "unit": "nats", "source": source}, "command": name}
        | found
        | {"machine": machine, "nats": 3.0 + seed}
        for name, source in (("one", "a paper"), ("two", "results/recipes.json, alone"))
        for seed in (0, 1)
    ]
    page = benchmark.page({"rows": rows})
    assert "| `one` | 7 | 5 | 3.000 ± 0.100, 4.000 ± 0.100 nats | 3.50 | +0.00 | a paper |" in page
    assert "| `two` | 7 | 5 | 3.000 ± 0.100, 4.000 ± 0.100 nats |\n" in page
    assert page.index("`one`") < page.index("Without a reported figure") < page.index("`two`")
    assert "All figures are exact" in page
    assert "*At most* marks bounds" in benchmark.page({"rows": [{**rows[0], "exact": False}]})


def test_a_slice_ends_and_the_next_call_goes_on(
    benchmark: Any,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
    tmp_path: Path,
    tiny: Recipe,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As on a GPU, but on the CPU."""
    said: list[list[str]] = []
    limits: list[float | None] = []

    def ancestral(words: list[str], threads: int, limit: float | None = None) -> tuple[dict[str, Any], float]:
        said.append(words)
        limits.append(limit)
        if len(said) == 1:
            raise benchmark.UnfinishedError
        return call(*words, "--json").json, 0.0

    monkeypatch.setattr(benchmark, "ancestral", ancestral)
    how = ("--gpu", "--device", "cpu", "--slice-minutes", 0.5)
    assert follow(benchmark, monkeypatch, tmp_path, *how, data=tmp_path) == []
    assert "nips-made, seed 3: not begun: the same command goes on" in capsys.readouterr().out
    assert follow(benchmark, monkeypatch, tmp_path, *how[:-1], 0, data=tmp_path) == []
    assert len(said) == 1
    (row,) = follow(benchmark, monkeypatch, tmp_path, *how, data=tmp_path)
    assert [words[0] for words in said] == ["train", "train", "evaluate"]
    assert said[-1][-2:] == ["--device", "cpu"]
    assert 0 < (limits[1] or 0) <= 30
    assert row["command"].endswith("--seed 3 --device cpu --precision bf16")
    assert row["machine"]["gpu"] is None
    assert "make results-gpu" not in benchmark.page({"rows": [row]})
    row["machine"]["gpu"] = "a GPU"
    page = benchmark.page({"rows": [row]})
    assert "`make results-gpu DATA=FOLDER` follows those with `--device cuda`." in page
    assert "a GPU beside " in page


def test_recipes_for_a_gpu_are_compiled_but_for_made(benchmark: Any) -> None:
    assert set(GPU) <= set(RECIPES)
    assert not any(RECIPES[name]().quick for name in GPU)
    for name in GPU:
        job = benchmark.Job(name, 0, None, "cuda")
        assert job.options()[:4] == ["--device", "cuda", "--precision", "bf16"]
        assert ("--compile" in job.options()) is (job.recipe.model != "made")
        assert job.folder != job._replace(device=None).folder


@pytest.mark.slow
def test_a_command_is_asked_to_stop_and_keeps_what_it_has(benchmark: Any, tmp_path: Path) -> None:
    words = ["train", "made", "--data", "digits", "--steps", "1000000", "--out", str(tmp_path / "run")]
    with pytest.raises(benchmark.UnfinishedError):
        benchmark.ancestral(words, 1, 0.01)
    trained, _ = benchmark.ancestral(words, 1, 15)
    assert trained["interrupted"]
    assert trained["steps"] > 0
    assert "of 1,000,000 steps" in benchmark.so_far(tmp_path / "run")
