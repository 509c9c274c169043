"""Scores of anomalies: known areas under the curve, what fools the likelihood alone, backgrounds, codecs."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ancestral import anomaly, testing
from ancestral.anomaly import Evidence, auroc
from ancestral.data import load
from ancestral.evaluation import with_labels_averaged
from ancestral.likelihoods import Bernoulli, Categorical, LogisticMixture
from ancestral.models import MADE, GatedPixelCNN
from datafiles import integers, npz
from datafiles import table as table_of
from small_runs import causal, pictures, recordings, some_data


def independent(p: Tensor, shape: tuple[int, ...]) -> MADE:
    """A model of independent bits, each 1 with its own probability, (D,)."""
    model = MADE(shape=shape, hidden=(4,)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        biases = [b for name, b in model.named_parameters() if name.endswith("bias") and b.shape == (math.prod(shape),)]
        biases[-1].copy_(p.logit())
    return model


def drawn(n: int, p: Tensor, shape: tuple[int, ...]) -> Tensor:
    return (torch.rand(n, len(p)) < p).long().view(n, *shape)


def evidence(values: Tensor, **more: Any) -> Evidence:
    return Evidence(values.double(), torch.ones(len(values), dtype=torch.float64), **more)


# --- the area under the curve -------------------------------------------------------------------------------------


def test_the_area_of_two_gaussians_is_known() -> None:
    area = auroc(torch.randn(4000), torch.randn(3000) + 1)
    known = 0.5 * (1 + math.erf(0.5))  # Phi(1 / sqrt 2)
    assert area.se == pytest.approx(0.0055, rel=0.15)
    assert abs(area.value - known) < 3 * area.se


def test_the_standard_error_is_the_spread_of_areas() -> None:
    areas = [auroc(torch.randn(50), torch.randn(30) + 1) for _ in range(400)]
    spread = torch.tensor([area.value for area in areas]).std().item()
    assert np.mean([area.se for area in areas]) == pytest.approx(spread, rel=0.15)


def test_ties_count_half_and_anomalies_are_positive() -> None:
    zeros, ones = torch.zeros(3), torch.ones(2)
    assert auroc(zeros, ones) == (1.0, 0.0)
    assert auroc(ones, zeros).value == 0
    assert auroc(zeros, zeros).value == 0.5
    assert auroc(zeros[:1], ones) == (1.0, None)


@pytest.mark.parametrize(("normal", "anomalous"), [([], [1.0]), ([1.0], []), ([math.nan, 1.0], [1.0])])
def test_an_area_of_nothing_is_refused(normal: list[float], anomalous: list[float]) -> None:
    with pytest.raises(ValueError, match="AUROC needs scores"):
        auroc(torch.tensor(normal), torch.tensor(anomalous))


# --- bits -----------------------------------------------------------------------------------------------------------


def test_bits_of_independent_values_are_known() -> None:
    p = torch.tensor([0.1, 0.5, 0.9])
    x = torch.tensor([[1, 0, 1], [0, 1, 0]])
    expected = -torch.where(x == 1, p, 1 - p).double().log2().sum(1)
    assert torch.allclose(anomaly.bits(independent(p, (3,)), x), expected, atol=1e-5)


def test_class_conditional_models_are_averaged_over_classes_unless_told() -> None:
    model = testing.tiny("made", shape=(5,), likelihood=Bernoulli(), classes=3).eval()
    x, labels = integers_of(2, (4, 5)), torch.tensor([0, 1, 2, 0])
    alone, averaged = with_labels_averaged(model, x, labels).unbind(1)
    assert torch.allclose(anomaly.bits(model, x), -averaged / math.log(2))
    assert torch.allclose(anomaly.bits(model, x, labels), -alone / math.log(2))


def integers_of(top: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(integers(top, shape))


def test_maps_of_surprise_add_up_to_the_bits_of_the_likeliest_class() -> None:
    model = testing.tiny("gated-pixelcnn", shape=(1, 4, 3), likelihood=Categorical(4), classes=3).eval()
    x = integers_of(4, (5, 1, 4, 3))
    with torch.no_grad():
        best = torch.stack([anomaly.bits(model, x, torch.full((5,), y)) for y in range(3)]).min(0).values
    maps = anomaly.surprise(model, x)
    assert maps.shape == x.shape
    assert torch.allclose(maps.flatten(1).sum(1), best, rtol=1e-5)
    with pytest.raises(ValueError, match="latent"):
        anomaly.surprise(testing.tiny("hierarchical-vae", shape=(5,)), torch.zeros(1, 5))


# --- the trap of simple pictures -----------------------------------------------------------------------------------


def test_complexity_repairs_what_simple_pictures_do_to_the_likelihood() -> None:
    """Noise of a third of ones; sparser noise, which is likelier under the same model, and easy to compress."""
    shape, p = (1, 24, 24), torch.full((576,), 0.33)
    model = independent(p, shape)
    normal, simple = drawn(40, p, shape), drawn(40, torch.full((576,), 0.02), shape)
    seen = [Evidence(anomaly.bits(model, x).detach(), torch.full((40,), 576.0)) for x in (normal, simple)]
    seen = [e._replace(coded=anomaly.coded_bits(x, 2)) for e, x in zip(seen, (normal, simple), strict=True)]
    areas = {name: auroc(*map(anomaly.SCORES[name], seen)).value for name in ("likelihood", "complexity")}
    assert areas["likelihood"] < 0.02
    assert areas["complexity"] > 0.98


def test_the_ratio_repairs_what_simple_backgrounds_do_to_the_likelihood() -> None:
    """16 bits mean something, 200 are background; anomalies have others and a blank background, which is likelier."""
    meaning, background, rate = torch.tensor([0.99, 0.01] * 8), torch.full((200,), 0.3), 0.1
    p = torch.cat([meaning, background])
    model, other = independent(p, (216,)), independent(p * (1 - rate) + rate / 2, (216,))
    normal = drawn(300, p, (216,))
    strange = torch.cat([integers_of(2, (300, 16)), torch.zeros(300, 200, dtype=torch.long)], 1)
    values = torch.full((300,), 216.0)
    with torch.no_grad():
        seen = [Evidence(anomaly.bits(model, x), values, anomaly.bits(other, x)) for x in (normal, strange)]
    areas = {name: auroc(*map(anomaly.SCORES[name], seen)).value for name in ("likelihood", "ratio")}
    assert areas["likelihood"] < 0.2
    assert areas["ratio"] > 0.95


def test_typicality_sees_what_is_too_likely_and_batches_see_more() -> None:
    normal, likely = evidence(torch.randn(2000), typical=0.0), evidence(torch.randn(2000) - 1, typical=0.0)
    assert auroc(anomaly.likelihood(normal), anomaly.likelihood(likely)).value < 0.3
    by_batch = {n: auroc(anomaly.typicality(normal, n), anomaly.typicality(likely, n)).value for n in (1, 10)}
    assert 0.6 < by_batch[1] < 0.8
    assert by_batch[10] > 0.98
    assert len(anomaly.typicality(normal, 300)) == 6
    limit = anomaly.limit_of_typical(normal, 10, generator=torch.Generator().manual_seed(0))
    assert limit == pytest.approx(2.576 / math.sqrt(10), rel=0.15)  # 99 % of |N(0, 1 / 10)|


@pytest.mark.parametrize(
    ("name", "what"), [("ratio", "background"), ("complexity", "codec"), ("typicality", "typical")]
)
def test_scores_say_what_they_miss(name: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        anomaly.SCORES[name](evidence(torch.zeros(2)))


# --- mutated data ---------------------------------------------------------------------------------------------------


def test_mutation_replaces_a_share_by_any_level() -> None:
    x = torch.full((50, 1, 20, 20), 7, dtype=torch.uint8)
    found = anomaly.mutated(x, 0.2, 16, torch.Generator().manual_seed(0))
    assert found.dtype == x.dtype
    assert (found != x).double().mean().item() == pytest.approx(0.2 * 15 / 16, abs=0.01)
    counts = torch.bincount(found[found != x].long(), minlength=16).double()
    assert counts[7] == 0
    assert bool((counts[torch.arange(16) != 7] / counts.sum() - 1 / 15).abs().max() < 0.02)
    assert torch.equal(anomaly.mutated(x, 0.0, 16), x)
    with pytest.raises(ValueError, match=r"rate=1\.5"):
        anomaly.mutated(x, 1.5, 16)


def test_data_is_mutated_anew_in_every_epoch_of_training(tmp_path: Any) -> None:
    path = npz(tmp_path / "x.npz", train=integers(256, (40, 4, 5)).astype(np.uint8))
    plain, data = load(path), load(path, mutate=0.3)
    index = torch.arange(len(data.split("train")))
    first, again, second = (data.batch("train", index, epoch)[0] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert (first != plain.batch("train", index)[0]).double().mean().item() == pytest.approx(0.3, abs=0.06)
    assert torch.equal(data.batch("test", torch.arange(4), 0)[0], data.batch("test", torch.arange(4), 1)[0])
    assert data.describe()["options"]["mutate"] == 0.3
    assert "mutate" not in plain.describe()["options"]


def test_mutation_that_makes_no_sense_is_refused(tmp_path: Any) -> None:
    floats = npz(tmp_path / "f.npz", train=np.random.default_rng(0).normal(size=(40, 3)))
    table = table_of(tmp_path / "t.csv", [[0, 1], [1, 0]] * 20)
    for source, options, message in (
        ("digits", {"mutate": 1.2}, "mutate=1.2"),
        ("digits", {"mutate": 0.1, "dequantize": True}, "dequantize"),
        (floats, {"mutate": 0.1}, "floats"),
        (table, {"mutate": 0.1}, "a table"),
    ):
        with pytest.raises(ValueError, match=message):
            load(source, **options)


# --- codecs and data -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "levels"), [((1, 9, 7), 2), ((1, 9, 7), 256), ((3, 8, 8), 256), ((1, 9, 7), 65536)])
def test_png_counts_the_pixels_alone(shape: tuple[int, ...], levels: int) -> None:
    x = integers(levels, shape)
    found = anomaly.png(x, levels)
    raw = math.prod(shape) * math.log2(levels)
    assert found is not None
    assert raw < found < raw + 8 * (shape[1] * 2 + 30)  # noise: a filter and a part of a byte for a row, zlib's ends
    content = io.BytesIO()
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(content, "png")
    assert anomaly.png(np.zeros((1, 9, 7)), 256) < 8 * (len(content.getvalue()) - 40)


def test_the_best_codec_counts() -> None:
    x = integers_of(256, (4, 1, 16, 16))
    flat = torch.zeros(2, 1, 16, 16, dtype=torch.long)
    each = torch.stack([anomaly.coded_bits(x, 256, [codec]) for codec in anomaly.CODECS])
    assert torch.equal(anomaly.coded_bits(x, 256), each.min(0).values)
    assert anomaly.coded_bits(flat, 256).max() < anomaly.coded_bits(x, 256).min() / 10
    assert anomaly.coded_bits([torch.zeros(50), torch.ones(7)], 4).shape == (2,)  # no pictures: one codec takes them
    assert anomaly.png(np.zeros((2, 8, 8)), 256) is None
    assert anomaly.webp(np.zeros((1, 8, 8)), 65536) is None


def test_evidence_is_gathered_in_the_order_of_the_data() -> None:
    data, model = some_data(), testing.tiny("made", shape=(5,), likelihood=Bernoulli(), classes=3).eval()
    other, shares = MADE(shape=(5,), hidden=(4,)).eval(), []
    how = {"background": other, "codecs": anomaly.CODECS, "on_progress": shares.append}
    seen = anomaly.gathered(model, data, "valid", typical=0.5, **how)
    x = data.split("valid").x
    with torch.no_grad():
        assert torch.allclose(seen.bits, anomaly.bits(model, x))
        assert torch.allclose(seen.background, anomaly.bits(other, x))
    assert seen.values.tolist() == [5.0] * 12
    assert torch.equal(seen.coded, anomaly.coded_bits(x, 2))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    index = data.limited("valid", 5)
    assert torch.equal(anomaly.gathered(model, data, "valid", limit=5).bits, seen.bits[index])


def test_recordings_are_scored_as_wholes() -> None:
    data, model = recordings(), causal(classes=3)
    part = data.split("test")
    seen = anomaly.gathered(model, data, "test", codecs=anomaly.CODECS)
    assert seen.values.tolist() == part.lengths.tolist()
    whole = part.x.split(part.lengths.tolist(), 1)
    with torch.no_grad():
        assert torch.allclose(seen.bits, torch.cat([anomaly.bits(model, x[None]) for x in whole]), rtol=1e-5)
    assert torch.equal(seen.coded, anomaly.coded_bits(whole, 4))


def test_bounds_of_dequantized_data_are_of_levels() -> None:
    data = load("digits", dequantize=True)
    model = testing.tiny("gated-pixelcnn", shape=(1, 8, 8), likelihood=LogisticMixture(components=2)).eval()
    seen = anomaly.gathered(model, data, limit=4)
    x, _ = data.batch("test", data.limited("test", 4))
    with torch.no_grad():
        expected = anomaly.bits(model, x) - data.log_cell / math.log(2)
    assert torch.allclose(seen.bits, expected)


def test_an_empty_split_is_said() -> None:
    data = pictures()
    data.splits["test"] = type(data.splits["test"])(data.splits["test"].x[:0])  # type: ignore[index]
    model = GatedPixelCNN(shape=(1, 4, 3), likelihood=Categorical(4), layers=1, channels=4)
    with pytest.raises(ValueError, match="no test examples"):
        anomaly.gathered(model, data)
