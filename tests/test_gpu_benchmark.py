"""The measurements that are for a GPU, at a tiny scale on the CPU: that they run, and go on."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ancestral.models import MADE, GatedPixelCNN, PixelCNN


@pytest.fixture
def benchmark(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module benchmarks/gpu.py, with small networks, none of which is compiled."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    for name in ("gpu", "audio", "audio_table", "sampling", "machine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import audio
    import gpu
    import machine

    for name in list(gpu.MODELS):
        monkeypatch.delitem(gpu.MODELS, name)
    monkeypatch.setitem(gpu.MODELS, "pixelcnn", lambda: PixelCNN(shape=(1, 5, 4), channels=8, layers=2))
    monkeypatch.setitem(gpu.MODELS, "gated-pixelcnn", lambda: GatedPixelCNN(shape=(1, 5, 4), channels=4, layers=1))
    monkeypatch.setitem(gpu.MODELS, "made", lambda: MADE(shape=(20,), hidden=(8,)))
    monkeypatch.setitem(gpu.NETWORKS, "small", {"layers": 2, "channels": 4, "cycle": 2})
    monkeypatch.setattr(audio, "SECONDS", 0.01)
    rate = machine.matrix_rate
    monkeypatch.setattr(machine, "matrix_rate", lambda **how: rate(64, **how))
    monkeypatch.setattr(nn.Module, "compile", lambda module: None)
    monkeypatch.setattr("ancestral.stream.captured", lambda step, device: step)
    return gpu


def measured(benchmark: Any, monkeypatch: pytest.MonkeyPatch, path: Path, *more: object) -> list[Any]:
    words = ["--device", "cpu", "--json", path, "--repeats", 1, "--networks", "small", "--batches", 2, *more]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, words), "--training-batches", "3"])
    benchmark.main()
    return json.loads(path.read_text())["rows"]


def test_all_is_measured_once(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = measured(benchmark, monkeypatch, tmp_path / "r.json")
    found = {benchmark.key_of(row): row for row in map(dict, rows)}
    images = ("pixelcnn", "gated-pixelcnn", "made")
    wanted = {(part, name, batch) for part, batch in (("sampling", 2), ("training", 3)) for name in images}
    assert set(found) == wanted | {("sound", "small", 2)}
    row = found["sampling", "pixelcnn", 2]
    assert set(row["seconds"]) == {"pass", "walk", "captured"}
    assert row["captured_equals_walk"] is True
    assert row["passes"]["walk"] == pytest.approx(row["seconds"]["walk"] / row["seconds"]["pass"])
    assert set(found["sampling", "made", 2]["seconds"]) == {"pass", "walk"}
    assert set(found["sound", "small", 2]["samples_per_second"]) == {"eager", "captured"}
    trained = found["training", "gated-pixelcnn", 3]
    assert set(trained["images_per_second"]) == {"eager", "compiled"}
    assert trained["share_of_matrix_rate"]["eager"] > 0
    assert all(row["machine"]["gpu"] is None for row in rows)
    said = capsys.readouterr().out
    assert said.count("\n") == 7
    assert "sampling pixelcnn, batch 2: pass " in said
    assert measured(benchmark, monkeypatch, tmp_path / "r.json") == rows
    assert capsys.readouterr().out == ""


def test_the_share_of_the_matrix_rate_by_hand(benchmark: Any) -> None:
    row = benchmark.training("made", 4, "cpu", 1)
    flops = 3 * 2 * (20 * 8 + 8 * 20)  # of an image: two layers, forward and twice that backward
    for way, speed in row["images_per_second"].items():
        assert row["share_of_matrix_rate"][way] == pytest.approx(speed * flops / 1e9 / row["matrix_rate_gflops"])


def test_without_a_gpu_it_says_so(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--device cpu tries the measurements" in capsys.readouterr().err
