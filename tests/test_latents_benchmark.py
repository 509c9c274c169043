"""The results of models with latents: the document is what the JSON says, and what it claims holds."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

NAMES = ("latents", "probe", "pixel_vae")


@pytest.fixture
def results(root: Path) -> dict[str, Any]:
    return {name: json.loads((root / "results" / f"{name}.json").read_text("utf-8")) for name in NAMES}


@pytest.fixture
def table(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module benchmarks/latents_table.py."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    for name in ("latents_table", "pixel_vae", "machine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import latents_table

    return latents_table


def test_the_document_is_what_the_json_says(root: Path, table: Any, results: dict[str, Any]) -> None:
    assert (root / "docs" / "latents.md").read_text("utf-8") == table.page(**results), "make tables"


def test_bounds_are_in_order(results: dict[str, Any]) -> None:
    for row in results["latents"]["rows"]:
        whole, some = row["bounds"]
        assert (whole["samples"], whole["images"]) == (500, 10_000)
        assert (some["samples"], some["images"]) == (5000, 1000)
        assert whole["nats"] < whole["elbo"]
        assert some["nats"] < some["elbo"]
        for bound in (whole, some):
            assert sum(level["kl"] for level in row["levels"]) < bound["elbo"]


def test_levels_are_those_of_the_network(results: dict[str, Any]) -> None:
    for row in results["latents"]["rows"]:
        assert [level["units"] for level in row["levels"]] == row["latents"]
        assert all(0 <= level["active"] <= level["units"] for level in row["levels"])


def test_a_batch_of_samples_costs_less_than_a_pass(results: dict[str, Any]) -> None:
    assert all(row["sampling"]["ratio"] < 1 for row in results["latents"]["rows"])


def test_latents_help_a_decoder_that_sees_little(results: dict[str, Any]) -> None:
    rows = {row["kind"]: row for row in results["pixel_vae"]["rows"]}
    others = min(rows[kind]["nats"] - 2 * rows[kind]["nats_se"] for kind in ("alone", "places"))
    assert rows["latents"]["nats"] + 2 * rows["latents"]["nats_se"] < others
