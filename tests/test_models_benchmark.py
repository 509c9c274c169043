"""The benchmark of all models: its tables cover what there is, its document is what its JSON says."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ancestral.data import load
from ancestral.models import MODELS


@pytest.fixture
def benchmark(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module benchmarks/models.py."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    for name in ("models", "models_table", "machine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import models

    return models


def call(benchmark: Any, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["models.py", *map(str, words)])
    benchmark.main()


def test_the_document_is_what_the_json_says(root: Path, benchmark: Any) -> None:
    result = json.loads((root / "results" / "models.json").read_text("utf-8"))
    assert (root / "docs" / "models.md").read_text("utf-8") == benchmark.page(result), "make tables"


def test_the_page_of_sampling_is_what_its_json_says(root: Path, benchmark: Any) -> None:
    import sampling  # beside the other, whose fixture has made it importable

    result = json.loads((root / "results" / "sampling.json").read_text("utf-8"))
    assert (root / "docs" / "sampling.md").read_text("utf-8") == sampling.page(result), "make tables"
    assert {row["model"] for row in result["rows"]} == set(sampling.MODELS) == set(MODELS) - benchmark.OTHERS
    assert all(row["multiply_adds_walk_over_pass"] <= 1 for row in result["rows"])


def test_every_model_has_its_arguments(benchmark: Any) -> None:
    from ancestral.cli.settings import build_model

    assert set(benchmark.ARGUMENTS["digits"]) >= set(MODELS) - benchmark.OTHERS
    assert set(benchmark.ARGUMENTS["photos"]) >= set(MODELS) - benchmark.OTHERS - {"made"}
    for name, of in benchmark.ARGUMENTS.items():
        data = load(name)
        for model in set(of) & set(MODELS):
            build_model(model, data, [word for word in of[model] if not word.startswith("--")])


def test_a_row(benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "models.json"
    monkeypatch.setitem(benchmark.ARGUMENTS["digits"], "made", ("hidden=8", "--batch-size=64"))
    words = ["--models", "made", "--data", "digits", "--minutes", 0.02, "--json", out, "--runs", tmp_path / "runs"]
    call(benchmark, monkeypatch, *words)
    result = json.loads(out.read_text("utf-8"))
    (row,) = result["rows"]
    assert row["command"] == (
        "ancestral train made --data digits --minutes 0.02 --out RUN --batch-size=64 --set hidden=8"
    )
    assert 1 < row["bits_per_dim"] < 8
    assert row["bits_per_dim_se"] > 0
    assert row["exact"] is True
    assert row["label_averaged"]["bits_per_dim"] > 1
    assert row["steps"] >= 1
    assert row["cpu_seconds"] > 0.5
    trivial = result["data"]["digits"]["baselines"]["independent histogram"]
    assert trivial["bits_per_dim"] == pytest.approx(2.433, abs=1e-3)
    assert f"| `made` | {row['bits_per_dim']:.3f} ± " in benchmark.page(result)

    monkeypatch.setattr(benchmark, "measure", lambda *args: pytest.fail("measured again"))
    out.write_text(json.dumps({**result, "rows": [{**row, "command": "written otherwise"}]}))
    call(benchmark, monkeypatch, *words)
    monkeypatch.setattr(benchmark, "measure", lambda *args: {**row, "steps": 7})
    call(benchmark, monkeypatch, *words, "--again")
    assert [row["steps"] for row in json.loads(out.read_text("utf-8"))["rows"]] == [7]


def test_both_heads_of_a_network(benchmark: Any) -> None:
    one, other = (
        benchmark.Job("dequantized", "gated-pixelcnn", "digits", head, ("layers=1", likelihood))
        for head, likelihood in (("discretized", benchmark.DISCRETIZED), ("dequantized", benchmark.CONTINUOUS))
    )
    assert "--dequantize" not in one.words(1, Path("RUN"))
    assert "--dequantize" in other.words(1, Path("RUN"))
    result: dict[str, Any] = {"rows": [], "dequantized": []}
    for job, bits in ((other, 3.0), (one, 2.0), (other, 4.0)):
        benchmark.put(result, job, {**job.key, "bits_per_dim": bits})
    assert [row["bits_per_dim"] for row in result["dequantized"]] == [2.0, 4.0]


def test_codecs(benchmark: Any) -> None:
    flat, noise = np.zeros((3, 3, 32, 32), np.uint8), np.random.default_rng(0).integers(256, size=(3, 3, 32, 32))
    for options in benchmark.CODECS.values():
        assert benchmark.codec_bits(flat, options)["bits_per_dim"] < 0.3
        assert 8 < benchmark.codec_bits(noise.astype(np.uint8), options)["bits_per_dim"] < 8.5


def row_of(job: Any, minutes: float, threads: int = 1, **more: Any) -> dict[str, Any]:
    """A row as it would be measured."""
    machine = {"cpu": "a CPU", "threads": threads, "date": "2026-01-01"}
    found = {"steps": 10, "cpu_seconds": 60.0, "parameters": 7, "bits_per_dim": 2.0, "machine": machine}
    settings = {"settings": list(job.settings), "minutes": minutes, "threads": threads}
    return {**job.key, **settings, **found, **more}


def test_a_row_is_known_by_what_was_run(benchmark: Any) -> None:
    job = benchmark.Job("models", "made", "digits", "", ("hidden=8",))
    assert job.measured(3.0, 1, [row_of(job, 3.0, command="as it was once written")])
    for row in (
        row_of(job, 2.0),
        row_of(job, 3.0, threads=2),
        row_of(job._replace(settings=("hidden=9",)), 3.0),
        row_of(job._replace(model="pixelcnn"), 3.0),
        row_of(job._replace(data="photos"), 3.0),
        row_of(job._replace(head="discretized"), 3.0),
    ):
        assert not job.measured(3.0, 1, [row])


def test_a_command_can_be_typed_in_a_shell(benchmark: Any) -> None:
    job = benchmark.Job("models", "pixelcnn", "photos", "", ("layers=1", "--batch-size=16", benchmark.DISCRETIZED))
    command = job.command(2)
    assert "'likelihood=DiscretizedLogisticMixture(components=10)'" in command
    assert shlex.split(command) == ["ancestral", *job.words(2, Path("RUN"))]
    likelihood = f"'{benchmark.DISCRETIZED}'"
    assert f"* photos, `pixelcnn`: `--batch-size=16 --set layers=1 {likelihood}`\n" in benchmark.page(
        {"data": {}, "rows": [row_of(job, 2.0)], "dequantized": []}
    )


def test_what_failed_is_said_in_its_last_line(benchmark: Any) -> None:
    with pytest.raises(RuntimeError, match=r"^ancestral evaluate nowhere: error: no such run folder: nowhere$"):
        benchmark.ancestral(["evaluate", "nowhere"], 1)


def test_a_document_of_what_is_there(benchmark: Any) -> None:
    job = benchmark.Job("models", "made", "digits", "", ())
    trivial = {"examples": 5, "baselines": {"uniform": {"bits_per_dim": 4.0}}}
    result: dict[str, Any] = {"data": {"digits": trivial, "photos": trivial}, "rows": [], "dequantized": []}
    assert "On `" not in benchmark.page(result)
    result["rows"] = [row_of(job, 3.0), row_of(job, 3.0, steps=1200, cpu_seconds=150.0)]
    page = benchmark.page(result)
    assert "On `photos`" not in page
    assert "On `digits` a run had 3 minutes by the clock on 1 thread, which came to " in page
    assert "1.0 to 2.5 minutes of CPU time and 10 to 1,200 steps;" in page
    assert "Budgets are equal in minutes of training, not in steps" in page
