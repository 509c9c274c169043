"""The benchmark of sound: its document is what its JSON says, its claims hold, coders are given what they say."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from ancestral.data.restore import Audio


@pytest.fixture
def benchmark(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module benchmarks/audio.py."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    for name in ("audio", "audio_table", "sampling", "machine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import audio

    return audio


@pytest.fixture
def result(root: Path) -> dict[str, Any]:
    return json.loads((root / "results" / "audio.json").read_text("utf-8"))


def test_the_document_is_what_the_json_says(root: Path, benchmark: Any, result: dict[str, Any]) -> None:
    assert (root / "docs" / "audio.md").read_text("utf-8") == benchmark.page(result), "make tables"


def test_both_networks_at_both_batches_are_measured(benchmark: Any, result: dict[str, Any]) -> None:
    rows = {(row["network"], row["batch"]): row for row in result["speed"]}
    assert set(rows) == {(network, batch) for network in benchmark.NETWORKS for batch in (1, 32)}
    for row in rows.values():
        rates = row["samples_per_second"]
        assert rates["naive"] < rates["eager"] < rates["compiled"] < row["limits"]["samples_per_second_by_arithmetic"]
        speed = rates["compiled"] / row["batch"]
        assert row["real_time"]["8000"]["compiled"] == pytest.approx(speed / 8000)
    assert rows["large", 1]["samples_per_second"]["compiled"] >= 2500
    assert rows["large", 32]["samples_per_second"]["compiled"] >= 25_000
    assert rows["small", 1]["real_time"]["8000"]["compiled"] >= 1


def test_runs_beat_what_knows_nothing_of_order(result: dict[str, Any]) -> None:
    assert {row["run"] for row in result["runs"]} == {"fsdd", "ljspeech", "ljspeech-mel"}
    for row in result["runs"]:
        assert row["bits_per_sample"] < row["coders"]["order-0 entropy"] < row["baselines"]["uniform"]["bits_per_dim"]
        assert row["training"]["minutes"] <= (30 if row["run"] == "fsdd" else 15)


def test_coders_by_hand(benchmark: Any) -> None:
    torch.manual_seed(0)
    coin = torch.randint(2, (20000,)) * 100 + 32768
    found = benchmark.coders(coin.split(5000), Audio(8000, 65536, mu_law=False))
    assert found["order-0 entropy"] == pytest.approx(1, abs=1e-3)
    assert 1 < found["xz -9e"] < 1.5
    assert found["FLAC"] > 1
    assert "FLAC" not in benchmark.coders((coin - 32768).split(5000), Audio(8000, 256, mu_law=True))


def test_flac_is_decoded_again(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is that of a file that holds the samples."""
    samples = (1000 * np.sin(np.arange(4000) / 7)).astype(np.int16)
    contents: list[bytes] = []
    write = soundfile.write

    def spying(content: Any, *arguments: Any, **more: Any) -> None:
        write(content, *arguments, **more)
        contents.append(content.getvalue())

    monkeypatch.setattr(soundfile, "write", spying)
    size = benchmark.flac_bytes(samples, 8000)
    assert size == len(contents[0]) < 2 * len(samples)


def test_a_row_of_speed(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SECONDS", 0.02)
    monkeypatch.setattr(benchmark, "memory_rate", lambda: 1e9)
    monkeypatch.setitem(benchmark.NETWORKS, "small", {"layers": 2, "channels": 4, "cycle": 2})
    made = benchmark.streaming
    monkeypatch.setattr(benchmark, "streaming", lambda model, batch, compiled: made(model, batch, compiled=False))
    row = benchmark.measure("small", 2, repeats=1)
    assert row["reach"] == 2 + 1 + 2
    assert row["multiply_adds"] == 2 * (2 * 4) + 2 * (2 * 4 * 8) + 4 * 4 + 8 * 4 + 4 * 4 + 4 * 256
    assert 0 < row["samples_per_second"]["naive"]
    assert row["real_time"]["8000"]["eager"] == pytest.approx(row["samples_per_second"]["eager"] / 2 / 8000)
    assert "samples/s eager" in benchmark.told(row)
