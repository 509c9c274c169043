"""The results of compression: the document is what the JSON says, and what it claims holds."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ancestral.data import load
from ancestral.models import MADE
from ancestral.training import train


@pytest.fixture
def result(root: Path) -> dict[str, Any]:
    return json.loads((root / "results" / "compression.json").read_text("utf-8"))


@pytest.fixture
def benchmark(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module benchmarks/compression.py."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    for name in (
        "compression",
        "compression_table",
        "latents",
        "latents_table",
        "pixel_vae",
        "machine",
        "other_codecs",
        "compression_picture",
    ):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import compression

    return compression


def test_the_document_is_what_the_json_says(root: Path, benchmark: Any, result: dict[str, Any]) -> None:
    assert (root / "docs" / "compression.md").read_text("utf-8") == benchmark.page(result, benchmark.PICTURES), (
        "make tables"
    )


def test_files_are_as_small_as_the_model_says(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        values = row["values"]
        for kind in ("portable", "native"):
            parts = row[kind]["parts"]
            spent = 8 * (parts["streams"] + parts["given"]) - parts["initial_bits"]
            slack = 64 * parts["chunks"] / values
            if row["exact"]:
                assert spent / values <= 1.001 * row["model_bits_per_dim"] + slack
            else:  # another draw of the latents
                assert spent / values == pytest.approx(row["model_bits_per_dim"], rel=0.02)
            assert row[kind]["overhead_bytes_each"] <= 4 or row["count"] == 1


def test_files_are_smaller_than_those_of_other_codecs(result: dict[str, Any]) -> None:
    rows = {row["run"]: row for row in result["rows"]}
    for name in ("made", "hierarchy"):  # binarized MNIST
        ours, others = rows[name]["portable"]["bits_per_dim"], rows[name]["others"]
        assert 4 * ours < min(others["each"].values())
        assert ours < 0.85 * min(others["whole"].values())
    digits = rows["digits"]
    assert 1.6 * digits["portable"]["bits_per_dim"] < digits["others"]["whole"]["xz"]


def test_a_row(benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 2, (90, 5))
    np.savez(tmp_path / "rows.npz", train=rows[:60], test=rows[60:])
    train(MADE(shape=(5,), hidden=(8,)), load(str(tmp_path / "rows.npz")), tmp_path / "run", steps=2)
    monkeypatch.setattr(sys, "argv", ["compression.py", str(tmp_path / "run"), "--json", str(tmp_path / "c.json")])
    benchmark.main()
    (row,) = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert row["portable"]["parts"]["entries"] == row["count"]
    assert row["portable"]["bits_per_dim"] > row["portable"]["bits_per_dim_of_streams"] > row["model_bits_per_dim"]
    assert set(row["others"]["whole"]) == {"xz", "bzip2"}
    assert "`run`" in benchmark.page({"rows": [row]}, tmp_path)
