"""What a run of latent variables tells: the nats of its levels over training, pictures of its latents, its codes."""

import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ancestral import checkpoint, data, testing
from ancestral.distributions import Discrete, Independent
from ancestral.evaluation import seeded
from ancestral.latents import BottomUp, Dense, Ladder, MeanField
from ancestral.likelihoods import Categorical, DiscretizedLogisticMixture, GaussianMixture
from ancestral.models import MADE, HierarchicalVAE
from ancestral.models.latent import LatentVariables
from ancestral.report import latents, write_report
from ancestral.report.figures import colours, curves
from ancestral.runs import Run, open_run
from ancestral.training import train
from ancestral.training.validating import measured, validation
from ancestral.walk import Fixed, Sample, drive
from calls import Call
from small_runs import made, records, some_data

SECTIONS = {  # by what their captions say
    "Samples without noise": "the mean of p(x|z) in the place of a draw",
    "What the latents hold": "the mean of the posterior has a variance above 0.01",
    "Reconstructions": "below each what two draws of its latents say of it: the mean of p(x|z)",
    "Along": "moved from -3 to 3 standard deviations of p",
    "Interpolations": "straight from the posterior means of the one to those of the other",
    "Top levels kept": "z_2 kept, the rest drawn anew from p",
}


def vae(**arguments: Any) -> HierarchicalVAE:
    torch.manual_seed(3)
    small = {"shape": (5,), "latents": (4, 2), "network": Dense(hidden=(8, 6), layers=1), "classes": 3}
    return HierarchicalVAE(**{**small, **arguments}).eval()


def lively(**arguments: Any) -> LatentVariables:
    """A model of digits with random weights, whose levels all tell something."""
    model = testing.instances.randomized(vae(shape=(1, 8, 8), likelihood=Categorical(17), **arguments))
    assert isinstance(model, LatentVariables)
    return model


def saved(model: LatentVariables | MADE, folder: Path, of: data.Data) -> Run:
    checkpoint.save(model, folder, data=of.describe())
    return open_run(folder)


@pytest.fixture(scope="module")
def digits() -> data.Data:
    return data.load("digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digits: data.Data) -> Run:
    return saved(lively(classes=None), tmp_path_factory.mktemp("runs") / "plain", digits)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, digits: data.Data) -> Run:
    return saved(lively(classes=10), tmp_path_factory.mktemp("runs") / "labelled", digits)


def page_of(run: Run) -> str:
    return write_report(run).read_text("utf-8")


def drawings(page: str) -> dict[str, Image.Image]:
    """The pictures of a page by their alternative texts."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)" alt="([^"]+)"', page)
    return {alt: Image.open(io.BytesIO(base64.b64decode(content))) for content, alt in found}


# --- over training ------------------------------------------------------------------------------------------------


def test_the_nats_of_every_level_are_recorded(tmp_path: Path) -> None:
    told: list[Any] = []
    train(vae(), some_data(), tmp_path, steps=8, on_progress=told.append)
    valid = records(tmp_path, "valid")
    assert valid
    assert all(len(record["kl"]) == 2 and min(record["kl"]) >= 0 for record in valid)
    assert all("kl" not in record for record in records(tmp_path, "train"))
    assert [record for record in told if record["split"] == "valid"] == valid
    train(vae(), some_data(), tmp_path / "again", steps=8)
    assert records(tmp_path / "again", "valid") == valid


def test_tensorboard_has_a_line_for_each_level(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(vae(), some_data(), tmp_path, steps=2)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"valid/nats", "valid/kl_1", "valid/kl_2"} <= set(events.Tags()["scalars"])
    assert [e.value for e in events.Scalars("valid/kl_2")] == [
        pytest.approx(record["kl"][1]) for record in records(tmp_path, "valid")
    ]


def test_the_nats_and_those_of_the_levels_are_of_the_same_draw() -> None:
    model, some = vae(), some_data()
    x, labels = some.batch("valid", torch.arange(12))
    found = validation(model, some, torch.arange(12), 5)
    with seeded(model.device):
        terms = model.terms(x, labels)
    assert found.kl == pytest.approx(terms.kl.double().mean(0).tolist())
    assert found.nats == pytest.approx(-terms.elbo().double().mean().item())
    assert found.nats >= sum(found.kl or [])  # log p(x|z) of levels is below 0


def test_models_without_latents_record_none(tmp_path: Path) -> None:
    train(made(), some_data(), tmp_path, steps=2)
    assert all("kl" not in record for record in records(tmp_path))
    assert measured(made(), torch.zeros(4, 5).long(), torch.zeros(4).long()).shape == (4, 1)


def test_a_level_without_a_number_is_recorded_as_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: object, x: Tensor, *more: object) -> Tensor:
        return torch.tensor([1.0, math.nan, 2.0]).expand(len(x), 3)

    monkeypatch.setattr("ancestral.training.validating.measured", broken)
    train(vae(), some_data(), tmp_path, steps=1)
    assert all(record["kl"] is None for record in records(tmp_path, "valid"))


def test_curves_of_any_number_of_levels() -> None:
    assert len(set(map(str, colours(12)))) == 12
    lines = {f"z_{level}": (range(30), [float(level)] * 29 + [50.0 * level]) for level in range(1, 13)}
    (ax,) = curves(lines, "step", "nats", whole=True).axes
    assert len(ax.lines) == 12
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] >= 600


# --- the page -----------------------------------------------------------------------------------------------------


def test_report_of_pictures(run: Run) -> None:
    lines = [{"step": s, "split": "valid", "bits_per_dim": 3.0, "kl": [4.0 / s, 1.0]} for s in (1, 2, 3)]
    older = {"step": 4, "split": "valid", "bits_per_dim": 3.0}
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, older]))
    page = page_of(run)
    for title, words in SECTIONS.items():
        assert f"<h2>{title}" in page
        assert words in page
    assert "curves of the KL of every level" in page
    assert page.index("<td>z_2</td>") < page.index("<td>z_1</td>")
    assert "Where the bits are" not in page
    shown = drawings(page)
    assert shown["test pictures and their reconstructions"].size == (10 * 66 - 2, 3 * 66 - 2)
    assert shown["interpolations between pairs of test pictures"].width == 11 * 66 - 2 - 4 + 24
    assert shown["samples with the top levels kept"].height == 6 * 66 - 2
    assert all(len(picture.getcolors(10_000) or []) > 10 for picture in shown.values())


def test_report_of_a_class_conditional_run(labelled: Run) -> None:
    page = page_of(labelled)
    assert "test pictures of one class" in page
    assert re.search(r"posterior means over test pictures: .*; class 0<", page)
    assert "curves of the KL" not in page  # nothing was recorded
    pairs = latents.pairs_of(labelled, labelled.data())
    assert pairs is not None
    a, b, labels = pairs
    assert labels is not None
    assert len(labels.unique()) == len(a) == latents.PAIRS
    x, own = labelled.data().batch("test", torch.arange(360))
    assert own is not None
    for ends in (a, b):
        found = [int(own[(x == end).flatten(1).all(1)][0]) for end in ends]
        assert found == labels.tolist()


def test_report_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    np.savetxt(path, np.random.default_rng(0).normal(size=(60, 3)), delimiter=",", header="a,b,c", comments="")
    table = data.load(path)
    model = vae(shape=(3,), likelihood=GaussianMixture(2), classes=None)
    train(model, table, tmp_path / "run", steps=4)
    page = page_of(open_run(tmp_path / "run"))
    assert "What the latents hold" in page
    assert "curves of the KL of every level" in page
    assert "<td>z_2</td>" in page
    assert "Reconstructions" not in page
    assert not drawings(page)


def test_report_without_the_data(run: Run) -> None:
    gone = run._replace(config=run.config | {"data": run.config["data"] | {"source": "gone.npz"}})
    page = page_of(gone)
    assert "cannot be read" in page
    assert "Samples without noise" in page
    assert "Reconstructions" not in page


def test_collapsed_levels_are_named(tmp_path: Path, digits: data.Data) -> None:
    model = lively(classes=None, posterior=MeanField(), latents=(4, 2))
    network = model.network
    with torch.no_grad():
        network.posteriors[1].weight.zero_()  # type: ignore[attr-defined]
        network.posteriors[1].bias.zero_()  # type: ignore[attr-defined]
    run = saved(model, tmp_path / "run", digits)
    page = page_of(run)
    assert page.count(">collapsed</td>") == 1
    assert "Along z_1, the highest that tells something" in page
    (_, mean, std), top = latents.spread(model, 2, None), model.network.shapes[1]
    assert torch.equal(mean, torch.zeros(1, *top))
    assert torch.equal(std, torch.ones(1, *top))


def test_one_level_keeps_nothing_to_draw(tmp_path: Path, digits: data.Data) -> None:
    one = lively(classes=None, latents=(4,), network=Dense(hidden=(8,), layers=1))
    page = page_of(saved(one, tmp_path / "one", digits))
    assert "Interpolations" in page
    assert "Top levels kept" not in page
    many = vae(latents=(4, 3, 3, 2, 2, 2), network=Dense(hidden=(8,) * 6, layers=1), posterior=Ladder())
    assert latents.kept_down_to(many) == [6, 5, 3, 2]


def test_draws_are_called_draws(run: Run, digits: data.Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "apart", lambda model: False)  # as under an autoregressive decoder
    assert "a draw of p(x|z)<" in latents.reconstructions(run, digits)
    assert "a draw of p(x|z), by the same noise in every picture" in latents.between(run, digits)
    assert "z_2 kept, then z_1 to z_2 kept" in latents.top_fixed(run, digits)
    assert latents.smooth_samples(run, digits) == ""


# --- what is shown ------------------------------------------------------------------------------------------------


def test_the_mean_of_levels_is_shown() -> None:
    pmf = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    mean = latents.mean_of(Independent(Discrete(pmf.log()), (2,)), torch.zeros(1, 2))
    assert mean.tolist() == [[0.5, 1.75]]


def test_the_mean_of_a_mixture_is_that_of_its_levels() -> None:
    likelihood = DiscretizedLogisticMixture(17, components=2)
    p = next(likelihood.walk(torch.randn(5, likelihood.features(1), 1).squeeze(2), 1))
    exact = p.log_pmf().exp().double() @ torch.arange(17.0).double()
    found = latents.mean_of(Independent(p, (5,)), torch.zeros(1, 5))
    torch.testing.assert_close(found[0], exact, atol=0.3, rtol=0)


def test_shades_draw_latents_as_a_sample_does(run: Run) -> None:
    model = latents.latent(run)
    noise = model.uniforms(3, torch.Generator().manual_seed(1))
    z = {level: torch.randn(3, *shape) for level, shape in zip(model.levels, model.network.shapes, strict=True)}
    shades = latents.Shades(noise)
    drive(model.walk(3), Fixed(z, shades))
    (mean,) = shades.means
    draws = [
        drive(model.walk(3), Fixed(z, Sample(model.uniforms(3, torch.Generator().manual_seed(i))))) for i in range(200)
    ]
    torch.testing.assert_close(torch.stack(draws).float().mean(0)[:, 0], mean, atol=2.0, rtol=0)
    assert torch.stack(draws).float().mean(0)[:, 0].sub(mean).abs().mean() < 0.4
    pictures = latents.shown(run, 3, z, None, same=True)
    expected = latents.shaded(run, mean[:, None])
    assert [p.tobytes() for p in pictures] == [p.tobytes() for p in expected]


def test_the_same_noise_leaves_only_latents_to_tell_pictures_apart(run: Run) -> None:
    model = latents.latent(run)
    z = torch.zeros(2, *model.network.shapes[-1])
    one, other = latents.shown(run, 2, {len(model.levels): z}, None, same=True)
    assert one.tobytes() == other.tobytes()
    one, other = latents.shown(run, 2, {len(model.levels): z}, None, same=False)
    assert one.tobytes() != other.tobytes()


@pytest.mark.parametrize("posterior", [BottomUp(), MeanField(), Ladder()])
def test_a_moved_variable_moves_alone(posterior: BottomUp) -> None:
    model = vae(posterior=posterior, classes=None)
    found = latents.moved(model, 1, torch.tensor([2]), None)
    changes = found[1] - found[1][4]
    assert bool((changes[:, [0, 1, 3]] == 0).all())
    assert torch.equal(changes[:, 2].sign(), torch.arange(-4.0, 5.0).sign())
    assert bool((found[2] == found[2][:1]).all())
    _, _, std = latents.spread(model, 1, None)
    assert float(changes[-1, 2]) == pytest.approx(3 * float(std[0, 2]), rel=1e-5)


# --- codes --------------------------------------------------------------------------------------------------------


def test_encode(call: Call, run: Run, digits: data.Data, tmp_path: Path) -> None:
    out = tmp_path / "new" / "codes.npz"
    done = call("encode", run.folder, "--out", out)
    assert done.status == 0
    assert done.out == f"z_1, z_2, x_label of 360 examples of the test part of digits: {out}\n"
    x, labels = digits.batch("test", torch.arange(360))
    assert labels is not None
    with np.load(out) as codes:
        assert set(codes) == {"z_1", "z_2", "x_label"}
        assert codes["x_label"].tolist() == labels.tolist()
        for level, means in enumerate(latents.latent(run).means(x), 1):
            np.testing.assert_allclose(codes[f"z_{level}"], means.numpy(), atol=1e-5)


def test_encode_takes_other_data_and_a_choice(call: Call, run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).integers(17, size=(7, 1, 8, 8)).astype(np.int16))
    out = tmp_path / "codes.npz"
    assert call("encode", run.folder, "--data", tmp_path / "x.npz", "--out", out).status == 0
    with np.load(out) as codes:
        assert {name: codes[name].shape for name in codes} == {"z_1": (7, 4), "z_2": (7, 2)}
    found = call("encode", run.folder, "--split", "train", "--limit", 5, "--out", out, "--json").json
    assert (found["n"], found["split"], found["arrays"]["z_1"]) == (5, "train", [4])


def test_encode_says_what_is_wrong(call: Call, run: Run, labelled: Run, tmp_path: Path) -> None:
    some = some_data()
    plain = saved(made(), tmp_path / "made", some)
    out = tmp_path / "codes.npz"
    np.savez(tmp_path / "bare.npz", x=np.full((7, 1, 8, 8), 16, np.int16))
    for words, says in (
        ((plain.folder, "--out", out), "made has no latents to encode by; of the models hierarchical-vae"),
        ((run.folder, "--out", tmp_path / "codes.csv"), "codes are written as .npz"),
        ((run.folder, "--out", out, "--limit", 0), "--limit"),
        ((run.folder, "--data", tmp_path / "gone.npz", "--out", out), "gone.npz"),
        ((labelled.folder, "--data", tmp_path / "bare.npz", "--out", out), "has no labels"),
    ):
        done = call("encode", *words)
        assert done.status in (1, 2)
        assert says in done.error
        assert not out.exists()


def test_sample_and_complete_of_such_a_run(call: Call, labelled: Run, tmp_path: Path) -> None:
    assert call("sample", labelled.folder, "--out", tmp_path / "s.png", "-n", 20).status == 0
    assert call("complete", labelled.folder, "--known", "top", "-n", 2, "--out", tmp_path / "c.png").status == 0
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size == (4 * 66 - 2 * 2 - 2 + 24, 8 * 66 - 2)
