"""Levels of latents: bounds of classes, active units, collapse, the same figures again; what verify says of them."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ancestral import checkpoint
from ancestral.data import Data, load
from ancestral.data.dataset import Split
from ancestral.data.restore import Arrays
from ancestral.evaluation import evaluate, per_example
from ancestral.latents import BottomUp, Dense, MeanField
from ancestral.levels import active_units, over_labels
from ancestral.likelihoods import Categorical
from ancestral.models import HierarchicalVAE
from ancestral.report.bounds import checked
from ancestral.report.verify import latent_findings
from ancestral.report.words import evaluation_text, summary_line
from ancestral.testing import tiny
from ancestral.walk import Sample, drive
from calls import Call


def model(**arguments: object) -> HierarchicalVAE:
    torch.manual_seed(1)
    network = Dense(hidden=(8, 6), layers=1)
    return HierarchicalVAE(**{"shape": (5,), "latents": (4, 3), "network": network, **arguments}).eval()


def data(examples: int = 40) -> Data:
    x = torch.randint(2, (examples, 5), generator=torch.Generator().manual_seed(2))
    part = Split(x, torch.arange(examples) % 3)
    return Data("some", (5,), 2, ("a", "b", "c"), {n: part for n in ("train", "valid", "test")}, (), Arrays(2))


def test_figures_are_the_same_whatever_the_generator_is_at() -> None:
    found = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(evaluate(model(), data(), samples=3))
        torch.manual_seed(seed)
        evaluate(model().eval(), data())
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        assert torch.equal(before, state)
    one, other = ({**f.to_json(), "seconds": 0} for f in found)
    assert one == other
    untouched = torch.get_rng_state()
    network = model()
    torch.set_rng_state(untouched)
    evaluate(network, data())
    assert torch.equal(torch.get_rng_state(), untouched)


def test_a_bound_of_more_draws_has_the_elbo_beside_it() -> None:
    found = evaluate(model(), data(400), samples=30)
    assert found.elbo is not None
    assert found.levels is not None
    assert not found.exact
    assert found.samples == 30
    assert found.nats < found.elbo.nats
    assert [(level.level, level.units) for level in found.levels] == [(1, 4), (2, 3)]
    alone = evaluate(model(), data(400))
    assert (alone.samples, alone.elbo) == (1, None)
    text = evaluation_text("hierarchical-vae", {**found.to_json(), "source": "some"})
    assert "importance-weighted, 30 draws" in text[0]
    assert f"at most {found.nats:.2f}" in text[0]
    assert text[2][1][0] == "at most, hierarchical-vae, 30 draws"
    assert text[2][2][0] == "at most, hierarchical-vae, ELBO"
    assert [row[0] for row in text[4][1:]] == ["z_2", "z_1"]


def test_active_units_are_known_in_spite_of_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(2000, 1, 3, generator=generator) * torch.tensor([0.0, 0.05, 0.2])
    noise = 0.2 * torch.randn(2000, 2, 3, generator=generator)
    assert active_units(truth + noise).tolist() == [False, False, True]


def test_a_level_that_tells_nothing_has_collapsed() -> None:
    network = model(posterior=MeanField())
    for name, parameter in network.named_parameters():
        if "posterior" in name and parameter.shape[0] == 6:
            torch.nn.init.zeros_(parameter)  # of the top level, whose prior is a standard Gaussian
    found = evaluate(network, data())
    assert found.levels is not None
    top = found.levels[1]
    assert top.collapsed
    assert (top.kl, top.active) == (pytest.approx(0, abs=1e-6), 0)
    last = evaluation_text("vae", {**found.to_json(), "source": "some"})[-1]
    assert "level 2 has collapsed: KL 0.00 nats, 0 of 3 units active; warm-up or free bits" in last


def log_evidence(network: HierarchicalVAE, x: Tensor, label: int, draws: int = 4000) -> Tensor:
    """Return log p(x|label), (B,) nats, by draws of the prior, which need no posterior."""
    labels = torch.full((draws * len(x),), label)
    state = drive(network.descent(len(labels), labels), Sample(network.uniforms(len(labels))))
    return network.log_px(x, state).view(draws, len(x)).double().logsumexp(0) - math.log(draws)


def test_the_bound_over_labels_is_a_bound() -> None:
    network = model(classes=3)
    x, labels = data(6).split("test").x, torch.arange(6) % 3
    with torch.no_grad():
        exact = torch.stack([log_evidence(network, x, y) for y in range(3)]).logsumexp(0) - math.log(3)
        several, of = x.repeat(200, 1), labels.repeat(200)
        for samples in (1, 4):
            tight = network.log_prob(several, of, samples=samples).double()
            values = over_labels(network, samples, several, of, tight).view(200, 6)
            error = values.std(0) / math.sqrt(200)
            assert bool((values.mean(0) <= exact + 5 * error + 0.02).all())


@pytest.mark.parametrize("samples", [1, 7])
def test_the_bound_over_labels_is_the_mean_of_all(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, known = model(classes=3), torch.tensor([-3.0, -5.0, -4.0])

    def by_label(x: Tensor, context: Tensor, times: int = 1, *more: object) -> Tensor:
        return known[context].expand(times, -1)

    monkeypatch.setattr(network, "log_weights", by_label)
    x, labels = data(6).split("test").x, torch.arange(6) % 3
    found = over_labels(network, samples, x, labels, known[labels].double())
    expected = known.double().logsumexp(0) - math.log(3)
    torch.testing.assert_close(found, expected.expand(6))


def test_the_bound_over_labels_costs_about_two(monkeypatch: pytest.MonkeyPatch) -> None:
    network, drawn = model(classes=3), []

    def counting(x: Tensor, context: Tensor | None, times: int = 1, *more: object) -> Tensor:
        drawn.append(times)
        return HierarchicalVAE.log_weights(network, x, context, times, *more)

    monkeypatch.setattr(network, "log_weights", counting)
    evaluate(network, data(12), samples=30)
    assert sum(drawn) == 60


def test_draws_are_weighed_in_chunks_that_do_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    network = model()
    for batch in (1, 128):
        few, many = network.chunks(batch, 50), network.chunks(batch, 5000)
        assert (sum(few), sum(many)) == (50, 5000)
        assert max(many) * batch <= 2**11 or max(many) == 1
    seen: list[int] = []

    def counting(x: Tensor, context: Tensor | None, times: int = 1, *more: object) -> Tensor:
        seen.append(times * len(x))
        return torch.zeros(times, len(x))

    monkeypatch.setattr(network, "log_weights", counting)
    assert network.log_prob(data(128).split("test").x, samples=5000).abs().max() < 1e-9
    assert max(seen) <= 2**11
    assert sum(seen) == 5000 * 128


def test_a_validation_is_the_same_whatever_the_generator_is_at() -> None:
    network, valid = model(), data()
    found = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        found.append(per_example(network.log_prob, network, valid, "valid", torch.arange(20)))
    assert torch.equal(*found)


def test_the_command_line_tells_of_levels(call: Call, tmp_path: Path) -> None:
    digits = load("digits")
    small = model(shape=(1, 8, 8), likelihood=Categorical(17))
    checkpoint.save(small, tmp_path / "run", data=digits.describe())
    done = call("evaluate", tmp_path / "run", "--samples", 3, "--limit", 20)
    assert done.status == 0, done.error
    assert "importance-weighted, 3 draws of the latents): at most" in done.out
    assert "ELBO" in done.out
    assert "z_2" in done.out
    found = call("evaluate", tmp_path / "run", "--samples", 3, "--limit", 20, "--json").json
    assert (found["samples"], found["exact"], len(found["levels"])) == (3, False, 2)
    assert found["elbo"]["nats"] > 0
    assert Path(found["written"]).name == "evaluation-test-limit20-samples3.json"
    wrong = call("evaluate", tmp_path / "run", "--samples", 0)
    assert (wrong.status, len(wrong.err.splitlines())) == (2, 1)


def test_samples_of_an_exact_model_are_refused(call: Call, tmp_path: Path) -> None:
    digits = load("digits")
    checkpoint.save(tiny("made", shape=(1, 8, 8), likelihood=Categorical(17)), tmp_path, data=digits.describe())
    done = call("evaluate", tmp_path, "--samples", 3)
    assert done.status == 1
    assert "samples=3 is for latent-variable models; MADE is exact" in done.error


def test_wrong_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="samples must be an integer of at least 1, got 0"):
        evaluate(model(), data(), samples=0)


def test_a_trained_model_is_verified_by_its_bounds() -> None:
    for posterior, closed in ((BottomUp(), [2]), (MeanField(), [1, 2])):
        found = checked(model(posterior=posterior), data(4).split("test").x, None)
        assert found.closed == closed
        assert [f.status for f in latent_findings(found)] == ["passed"] * 4 + ["not applicable"]
    wrong = found._replace(gains=[(-1.0, 0.1)], gap=(1.0, 0.1), difference=1.0)
    assert [f.status for f in latent_findings(wrong)][1:4] == ["failed"] * 3


def test_the_words_of_an_elbo() -> None:
    found = {**evaluate(model(), data()).to_json(), "source": "some"}
    assert "an upper bound on -log p(x) (the ELBO): at most" in summary_line(found)
