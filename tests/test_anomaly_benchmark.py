"""The results of anomaly scores: the document is what the JSON says, and what it claims holds."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ancestral.data import load
from ancestral.likelihoods import Categorical
from ancestral.models import GatedPixelCNN
from ancestral.training import train
from datafiles import npz


@pytest.fixture
def result(root: Path) -> dict[str, Any]:
    return json.loads((root / "results" / "anomaly.json").read_text("utf-8"))


@pytest.fixture
def benchmark(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module benchmarks/anomaly.py."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    for name in ("anomaly", "anomaly_table", "latents", "latents_table", "machine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import anomaly

    return anomaly


def test_the_document_is_what_the_json_says(root: Path, benchmark: Any, result: dict[str, Any]) -> None:
    assert (root / "docs" / "anomaly.md").read_text("utf-8") == benchmark.page(result, benchmark.PICTURES), (
        "make tables"
    )


def test_the_likelihood_fails_on_simple_pictures_and_complexity_repairs_it(result: dict[str, Any]) -> None:
    (row,) = [row for row in result["rows"] if row["title"] == "Fashion-MNIST, MNIST"]
    own, other = (of["mean"] for of in row["bits_per_dim"])
    assert other < own
    assert row["auroc"]["likelihood"]["value"] < 0.2
    assert row["auroc"]["complexity, best"]["value"] > 0.9


def test_a_row(benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    own = npz(tmp_path / "own.npz", train=noise.integers(0, 5, (60, 6, 6)), test=noise.integers(0, 5, (15, 6, 6)))
    other = npz(tmp_path / "other.npz", test=noise.integers(0, 5, (12, 1, 6, 6)) // 4 * 4)
    for name, mutate in (("run", None), ("background", 0.25)):
        model = GatedPixelCNN(shape=(1, 6, 6), likelihood=Categorical(5), layers=1, channels=4)
        train(model, load(own, mutate=mutate), tmp_path / name, steps=2)
    words = [str(tmp_path / "run"), "--against", str(other), "--background", str(tmp_path / "background")]
    places = ["--json", str(tmp_path / "a.json"), "--pictures", str(tmp_path / "pictures")]
    monkeypatch.setattr(sys, "argv", ["anomaly.py", *words, *places])
    for _ in range(2):  # the second takes the place of the first
        benchmark.main()
    (row,) = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert row["counts"] == [15, 12]
    assert row["background"]["mutate"] == 0.25
    assert "--mutate 0.25" in row["background"]["command"]
    names = {"likelihood", "ratio", "codec alone", *(f"typicality, {n}" for n in (1, 2, 5, 10))}
    assert names | {f"complexity, {name}" for name in ("png", "webp", "xz", "best")} == set(row["auroc"])
    page = benchmark.page({"rows": [row]}, tmp_path / "pictures")
    assert "run against other" in page
    assert "pictures/run-other.png" in page
    monkeypatch.setattr(sys, "argv", ["anomaly.py", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        benchmark.main()
