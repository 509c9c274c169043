"""The claims: the document is what the JSON files say, its words fit them, and pairs are of the same examples."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ancestral import checkpoint, data, testing
from ancestral.likelihoods import Categorical
from ancestral.runs import Run, open_run
from datafiles import npz


@pytest.fixture
def benchmark(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module benchmarks/claims.py."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    for name in ("claims", "claims_table", "models_table", "machine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import claims

    return claims


@pytest.fixture
def results(root: Path, benchmark: Any) -> dict[str, Any]:
    return {name: json.loads((root / "results" / f"{name}.json").read_text("utf-8")) for name in benchmark.SOURCES}


def test_the_document_is_what_the_json_says(root: Path, benchmark: Any, results: dict[str, Any]) -> None:
    assert (root / "docs" / "claims.md").read_text("utf-8") == benchmark.page(results), "make tables"


def test_words_that_no_longer_fit_are_refused(benchmark: Any, results: dict[str, Any]) -> None:
    changed = copy.deepcopy(results)
    for row in changed["claims"]["rows"]:
        row["difference"] *= -1
    with pytest.raises(ValueError, match="'PixelRNN is better than PixelCNN, but slower' no longer say"):
        benchmark.page(changed)
    changed = copy.deepcopy(results)
    changed["anomaly"]["rows"][0]["auroc"]["complexity, best"]["value"] = 0.5
    with pytest.raises(ValueError, match="'A likelihood tells data from other data' no longer say"):
        benchmark.page(changed)


def run_of(folder: Path, source: Path, seed: int, classes: int | None = None) -> Run:
    """A run of random weights."""
    torch.manual_seed(seed)
    model = testing.tiny("gated-pixelcnn", shape=(1, 4, 4), likelihood=Categorical(3), classes=classes)
    checkpoint.save(model, folder, data=data.load(source).describe())
    return open_run(folder)


def test_a_difference_is_that_of_the_same_examples(benchmark: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(3, size=(40, 1, 4, 4), dtype=np.uint8)
    source = npz(tmp_path / "a.npz", train=x[:20], valid=x[20:25], test=x[25:])
    first, second = (run_of(tmp_path / f"run{seed}", source, seed) for seed in (0, 1))
    row = benchmark.compared(first, second)
    with torch.no_grad():
        bits = [-run.model.log_prob(torch.from_numpy(x[25:])).double() / (16 * np.log(2)) for run in (first, second)]
    difference = bits[0] - bits[1]
    assert row["difference"] == pytest.approx(difference.mean().item(), abs=1e-6)
    assert row["se"] == pytest.approx(difference.std().item() / 15**0.5, rel=1e-4)
    assert row["count"] == 15
    assert benchmark.compared(first, first)["difference"] == 0

    other = npz(tmp_path / "b.npz", train=x[:20], valid=x[20:30], test=x[30:])
    with pytest.raises(ValueError, match="nothing to pair"):
        benchmark.compared(first, run_of(tmp_path / "run2", other, 0))


def test_a_pair_has_one_row(benchmark: Any) -> None:
    row = {"data": "digits", "names": ["b", "a"], "commands": ["x", "y"], "difference": 1.0}
    result: dict[str, Any] = {"rows": [{**row, "difference": 2.0}]}
    benchmark.put(result, row)
    benchmark.put(result, {**row, "names": ["a", "b"], "commands": ["y", "x"]})
    assert [(each["names"], each["difference"]) for each in result["rows"]] == [(["a", "b"], 1.0), (["b", "a"], 1.0)]
