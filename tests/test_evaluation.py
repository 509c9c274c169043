import json
import math
from itertools import product

import pytest
import torch
from torch import Tensor

from ancestral.data import Data, load
from ancestral.data.dataset import Split
from ancestral.data.restore import Arrays
from ancestral.evaluation import baselines, check_fit, ensemble, evaluate, with_labels_averaged
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture, GaussianMixture, LogisticMixture
from ancestral.model import Model
from ancestral.models import MADE, GatedPixelCNN


def made_data(x: Tensor, levels: int | None, labels: Tensor | None = None, train: Tensor | None = None) -> Data:
    classes = None if labels is None else tuple(str(y) for y in range(int(labels.max()) + 1))
    first = x if train is None else train
    splits = {"train": Split(first, None if labels is None else labels[: len(first)]), "test": Split(x, labels)}
    splits["valid"] = Split(x[:0], None if labels is None else labels[:0])
    return Data("made", tuple(x.shape[1:]), levels, classes, splits, (), Arrays(levels))


def all_of(levels: int, variables: int) -> Tensor:
    return torch.tensor(list(product(range(levels), repeat=variables)))


def uniform(model: Model, out: torch.nn.Module) -> Model:
    torch.nn.init.zeros_(out.weight)
    torch.nn.init.zeros_(out.bias)
    return model


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_uniform_model_has_log2_k_bits_per_dim(levels: int) -> None:
    likelihood = Bernoulli() if levels == 2 else Categorical(levels)
    image, table = torch.randint(levels, (7, 1, 3, 4)), torch.randint(levels, (7, 5))
    pixelcnn = GatedPixelCNN(shape=(1, 3, 4), likelihood=likelihood, channels=4, layers=1)
    made = MADE(shape=(5,), likelihood=likelihood, hidden=(6,))
    for model, out, x in ((pixelcnn, pixelcnn.out, image), (made, made.layers[-1], table)):
        found = evaluate(uniform(model, out), made_data(x, levels))
        assert found.bits_per_dim == pytest.approx(math.log2(levels), abs=1e-5)
        assert found.nats == pytest.approx(x[0].numel() * math.log(levels), rel=1e-5)
        assert found.nats_se == pytest.approx(0, abs=1e-4)
        assert found.baselines["uniform"]["bits_per_dim"] == pytest.approx(math.log2(levels))


def test_every_example_counts_once_whatever_the_batches() -> None:
    model = MADE(shape=(4,), hidden=(8,))
    x = torch.randint(2, (23, 4))
    log_p = model.log_prob(x).double()
    for size in (1, 5, 11, 23, 100):
        found = evaluate(model, made_data(x, 2), batch_size=size)
        assert found.count == 23
        assert found.nats == pytest.approx(-log_p.mean().item(), rel=1e-6)
        assert found.nats_se == pytest.approx(log_p.std().item() / math.sqrt(23), rel=1e-5)
        assert found.bits_per_dim == pytest.approx(found.nats / (4 * math.log(2)))
        assert found.bits_per_dim_se == pytest.approx(found.nats_se / (4 * math.log(2)))


def test_sums_are_in_double_precision() -> None:
    model = MADE(shape=(4,), hidden=(8,))
    x = torch.randint(2, (1, 4)).expand(1003, 4)
    found = evaluate(model, made_data(x, 2), batch_size=100)
    assert found.nats == pytest.approx(-model.log_prob(x[:1]).double().item(), rel=1e-6)
    assert found.nats_se == pytest.approx(0, abs=1e-6)


def test_a_limit_draws_the_same_examples_again() -> None:
    model, data = MADE(shape=(4,), hidden=(8,)), made_data(torch.randint(2, (50, 4)), 2)
    first, again = (evaluate(model, data, limit=10) for _ in range(2))
    assert first.count == 10
    assert (first.nats, first.baselines) == (again.nats, again.baselines)
    assert first.nats == pytest.approx(-model.log_prob(data.splits["test"].x[data.limited("test", 10)]).mean().item())


def test_one_example_has_no_standard_error() -> None:
    found = evaluate(MADE(shape=(4,), hidden=(8,)), made_data(torch.zeros(1, 4, dtype=torch.long), 2))
    assert found.nats_se is found.bits_per_dim_se is None
    json.dumps(found.to_json(), allow_nan=False)


def test_the_mode_of_the_model_does_not_matter_and_is_kept() -> None:
    model = MADE(shape=(4,), hidden=(8,))
    model.layers[0].register_forward_hook(
        lambda layer, given, out: torch.nn.functional.dropout(out, 0.5, layer.training)
    )
    data = made_data(torch.randint(2, (20, 4)), 2)
    assert evaluate(model.train(), data).nats == evaluate(model.eval(), data).nats
    assert not model.training
    evaluate(model.train(), data)
    assert model.training


def test_the_label_averaged_likelihood_is_a_likelihood() -> None:
    model = MADE(shape=(3,), likelihood=Categorical(3), hidden=(8,), classes=4)
    x = all_of(3, 3)
    given, averaged = with_labels_averaged(model, x, torch.full((27,), 2)).unbind(1)
    torch.testing.assert_close(given, model.log_prob(x, 2).double())
    assert averaged.exp().sum().item() == pytest.approx(1, abs=1e-6)
    by_hand = sum(model.log_prob(x, y).double().exp() for y in range(4)) / 4
    torch.testing.assert_close(averaged.exp(), by_hand)


def test_what_is_given_is_said_and_averaged_over() -> None:
    x, labels = torch.randint(2, (12, 4)), torch.arange(12) % 3
    model = MADE(shape=(4,), hidden=(8,), classes=3)
    found = evaluate(model, made_data(x, 2, labels), batch_size=5)
    assert found.given == "the label"
    assert found.nats == pytest.approx(-model.log_prob(x, labels).mean().item(), rel=1e-5)
    averaged = with_labels_averaged(model, x, labels)[:, 1]
    assert found.label_averaged.nats == pytest.approx(-averaged.mean().item())
    assert found.label_averaged.nats_se == pytest.approx(averaged.std().item() / math.sqrt(12))
    unconditional = evaluate(MADE(shape=(4,), hidden=(8,)), made_data(x, 2, labels))
    assert unconditional.given is unconditional.label_averaged is unconditional.ensemble is None


def test_an_ensemble_averages_probabilities() -> None:
    model = MADE(shape=(3,), hidden=(6,), masks=4, order_agnostic=True, connectivity_agnostic=True)
    x = all_of(2, 3)
    log_p = ensemble(model, x, masks=range(4))
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-6)
    by_hand = torch.stack([model.log_prob(x, mask=mask) for mask in range(4)]).double().exp().mean(0)
    torch.testing.assert_close(log_p.exp(), by_hand)
    found = evaluate(model, made_data(x, 2))
    assert found.masks == 4
    assert found.ensemble.nats == pytest.approx(-log_p.mean().item())
    assert found.nats == pytest.approx(-model.log_prob(x).mean().item(), rel=1e-6)
    endless = evaluate(MADE(shape=(3,), hidden=(6,), masks=None, order_agnostic=True), made_data(x, 2))
    assert endless.masks > 1


@pytest.mark.parametrize("likelihood", [GaussianMixture(2), LogisticMixture(2)], ids=repr)
def test_continuous_data_has_nats_only(likelihood: object) -> None:
    model = MADE(shape=(3,), likelihood=likelihood, hidden=(8,))
    found = evaluate(model, made_data(torch.randn(30, 3), None))
    assert found.bits_per_dim is found.bits_per_dim_se is None
    assert found.baselines["gaussian"]["bits_per_dim"] is None
    json.dumps(found.to_json(), allow_nan=False)


def test_gaussian_baseline_is_the_entropy_of_a_gaussian() -> None:
    torch.manual_seed(1)
    mixing = torch.tensor([[1.0, 0.0], [2.0, 0.5]])
    x, train = torch.randn(20000, 2) @ mixing.T, torch.randn(20000, 2) @ mixing.T
    entropy = 1 + math.log(2 * math.pi) + math.log(0.5)
    assert baselines(made_data(x, None, train=train))["gaussian"]["nats"] == pytest.approx(entropy, abs=0.03)


def test_gaussian_baseline_of_columns_that_depend_on_each_other_is_finite() -> None:
    column = torch.randn(50, 1)
    assert math.isfinite(baselines(made_data(torch.cat([column, column], 1), None))["gaussian"]["nats"])


def test_histogram_baselines_by_hand() -> None:
    train, x = torch.tensor([[0, 1], [0, 2], [0, 1]]), torch.tensor([[0, 1], [2, 2]])
    found = baselines(made_data(x, 3, train=train))
    independent = -(math.log(4 / 6) + math.log(3 / 6) + math.log(1 / 6) + math.log(2 / 6)) / 2
    everywhere = -(math.log(4 / 9) + math.log(3 / 9) + 2 * math.log(2 / 9)) / 2
    assert found["independent histogram"]["nats"] == pytest.approx(independent)
    assert found["global histogram"]["nats"] == pytest.approx(everywhere)
    assert found["uniform"] == {"nats": pytest.approx(2 * math.log(3)), "bits_per_dim": pytest.approx(math.log2(3))}


def test_baselines_without_training_examples() -> None:
    x = torch.randint(3, (4, 2))
    assert list(baselines(made_data(x, 3, train=x[:0]))) == ["uniform"]
    assert baselines(made_data(torch.randn(4, 2), None, train=torch.randn(0, 2))) == {}


def test_baselines_of_digits() -> None:
    found = {name: round(figures["bits_per_dim"], 2) for name, figures in baselines(load("digits")).items()}
    assert found == {"uniform": 4.09, "global histogram": 2.97, "independent histogram": 2.43}


IMAGES, BITS = torch.zeros(4, 1, 3, 3, dtype=torch.uint8), torch.zeros(4, 5, dtype=torch.uint8)
IMAGE_MODEL = {"shape": (1, 3, 3), "likelihood": Categorical(4), "channels": 4, "layers": 1}


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (MADE(shape=(5,), hidden=(4,)), made_data(BITS, 4), r"4 levels, the model takes 2 levels \(Bernoulli"),
        (MADE(shape=(5,), hidden=(4,)), made_data(BITS.float(), None), "continuous values, the model takes 2 levels"),
        (MADE(shape=(5,), likelihood=GaussianMixture(2), hidden=(4,)), made_data(BITS, 2), "takes continuous values"),
        (MADE(shape=(6,), hidden=(4,)), made_data(BITS, 2), r"does not fit the model: .*\(B, 6\)"),
        (GatedPixelCNN(**IMAGE_MODEL), made_data(IMAGES.expand(4, 3, 3, 3), 4), r"does not fit the model: .*\(B, 1, H"),
        (GatedPixelCNN(**IMAGE_MODEL), made_data(BITS, 4), r"does not fit the model: .*\(B, 1, H, W\)"),
        (GatedPixelCNN(**IMAGE_MODEL, classes=3), made_data(IMAGES, 4), "has no labels, and the model is conditional"),
        (
            GatedPixelCNN(**IMAGE_MODEL, classes=3),
            made_data(IMAGES, 4, torch.tensor([0, 1, 5, 0])),
            "labels from 0 to 5, the model knows classes from 0 to 2",
        ),
        (MADE(shape=(5,), hidden=(4,)), made_data(BITS[:0], 2), "has no test examples"),
    ],
)
def test_data_that_does_not_fit_is_refused(model: Model, data: Data, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        evaluate(model, data)
    assert "\n" not in str(error.value)


def test_an_image_model_takes_any_size() -> None:
    check_fit(GatedPixelCNN(**IMAGE_MODEL), made_data(torch.zeros(2, 1, 5, 2, dtype=torch.uint8), 4), "test")


def test_wrong_arguments_are_refused() -> None:
    model, data = MADE(shape=(5,), hidden=(4,)), made_data(BITS, 2)
    with pytest.raises(ValueError, match="samples=3 is for latent-variable models"):
        evaluate(model, data, samples=3)
    with pytest.raises(ValueError, match="split='tset'"):
        evaluate(model, data, "tset")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        evaluate(model, data, batch_size=0)


def test_a_mixture_over_levels_is_evaluated() -> None:
    model = GatedPixelCNN(shape=(1, 3, 3), likelihood=DiscretizedLogisticMixture(4, 2), channels=4, layers=1)
    found = evaluate(model, made_data(IMAGES, 4))
    assert found.exact
    assert found.bits_per_dim == pytest.approx(found.nats / (9 * math.log(2)))
