"""Levels of latents: bounds of classes, active units, collapse, the same figures again; what verify says of them."""

import math

import pytest
import torch
from torch import Tensor

from ancestral.data import Data
from ancestral.data.dataset import Split
from ancestral.data.restore import Arrays
from ancestral.evaluation import evaluate
from ancestral.latents import BottomUp, Dense, MeanField
from ancestral.levels import active_units, over_labels
from ancestral.models import HierarchicalVAE
from ancestral.report.bounds import checked
from ancestral.report.verify import latent_findings
from ancestral.report.words import evaluation_text, summary_line


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


def test_the_bound_over_labels_is_a_bound() -> None:
    network = model(classes=3)
    x, labels = data(6).split("test").x, torch.arange(6) % 3
    with torch.no_grad():
        exact = torch.stack([network.log_prob(x, labels * 0 + y, samples=20000) for y in range(3)]).logsumexp(0)
        exact = exact - math.log(3)
        for samples in (1, 4):
            draws = [
                over_labels(network, samples, x, labels, network.log_prob(x, labels, samples=samples).double())
                for _ in range(300)
            ]
            values = torch.stack(draws)
            error = values.std(0) / math.sqrt(300)
            assert bool((values.mean(0) <= exact + 5 * error + 0.01).all())
        many = network.log_prob(x, labels, samples=20000).double()
        torch.testing.assert_close(over_labels(network, 20000, x, labels, many), exact, atol=0.2, rtol=0)


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
