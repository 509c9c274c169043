"""Recipes: that their models can be built, what they have to say of data, and that training follows them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ancestral.cli.recipes import check_wanted, checksum_line, likelihood_for, recipe_rows
from ancestral.data import BINARIZE, load
from ancestral.data.dataset import SPLITS
from ancestral.latents import Dense, Residual
from ancestral.likelihoods import LogisticMixture
from ancestral.models import MODELS
from ancestral.recipes import RECIPES, Recipe
from ancestral.training.resuming import fingerprint
from calls import Call
from datafiles import npz

SIZES = {  # of a network that trains in a blink, by the names of the arguments
    "channels": "6",
    "cycle": "1",
    "skip": "6",
    "hidden": "8",
    "masks": "2",
    "layers": "1",
    "final_channels": "6",
    "kernel_size": "3",
    "residual_blocks": "1",
    "keys": "2",
    "likelihood": "DiscretizedLogisticMixture(components=2)",
}


LAYERS: dict[type, dict[str, Any]] = {Dense: {"hidden": (6, 4)}, Residual: {"channels": 6}}


def smallest(recipe: Recipe) -> list[str]:
    """Settings that make the network of a recipe small."""
    if recipe.model == "hierarchical-vae":
        network = recipe.arguments["network"]
        small = replace(network, blocks=None, strides=(2, 2)) if isinstance(network, Residual) else network
        return ["--set", "latents=2,2", f"network={replace(small, **LAYERS[type(small)])}"]
    names = [name for name in recipe.arguments if name in SIZES]
    if recipe.data.levels != 256:
        names.remove("likelihood")
    return ["--set", *(f"{name}={SIZES[name]}" for name in names)]


def some(recipe: Recipe, path: Path, count: int = 12) -> Path:
    """A file of random data as a recipe wants it."""
    levels = 256 if recipe.data.binarize else recipe.data.levels
    random, shape = np.random.default_rng(0), (count, *recipe.data.shape)
    if levels is None:
        x = random.normal(size=shape).astype(np.float32)
    else:
        x = random.integers(levels, size=shape, dtype=np.uint8 if levels in (2, 256) else np.int16)
        x.reshape(count, -1)[:, 0] = levels - 1
    return npz(path, train=x, valid=x[:4], test=x[:4])


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds(name: str) -> None:
    recipe = RECIPES[name]()
    assert recipe.model in MODELS
    assert recipe.parameters() > 1000
    assert set(recipe.training) <= {
        "epochs",
        "steps",
        "minutes",
        "batch_size",
        "lr",
        "weight_decay",
        "precision",
        "loss",
    }
    assert sum(limit in recipe.training for limit in ("epochs", "steps", "minutes")) == 1
    exact_values = "bits/sample" if len(recipe.data.shape) == 2 else "bits/dim"
    assert recipe.expected.unit == ("nats" if recipe.data.levels in (2, None) else exact_values)
    assert RECIPES[name].__doc__
    json.dumps(recipe.to_json(), allow_nan=False)
    told = dict(recipe_rows(recipe))
    assert all(name in told["training"] for name in recipe.training)


def test_made_has_as_many_parameters_as_the_paper_says() -> None:
    own_bias_of_the_direct_connections = 784
    assert RECIPES["mnist-made-deep"]().parameters() == 76_560_784 + 784**2 + own_bias_of_the_direct_connections


def test_image_models_have_as_many_parameters_as_computed() -> None:
    """The networks of the authors' code, in which a first or last layer may have another bias than ours."""
    for name, millions in (("cifar10-pixelcnn++", 53.66), ("cifar10-pixelsnail", 91.7)):
        assert RECIPES[name]().parameters() / 1e6 == pytest.approx(millions, rel=0.005)


def test_parameters_are_those_of_a_model_that_is_made() -> None:
    for name in ("digits-gated-pixelcnn", "cifar10-pixelcnn"):
        recipe = RECIPES[name]()
        assert recipe.parameters() == sum(p.numel() for p in recipe.build().parameters())


def test_the_command_lists_them(call: Call) -> None:
    done = call("recipes")
    assert done.status == 0
    assert all(name in done.out for name in RECIPES)
    assert "3.14 bits/dim" in done.out
    found = call("recipes", "--json").json
    assert list(found) == list(RECIPES)
    assert found["cifar10-pixelcnn"]["expected"]["value"] == 3.14
    assert found["cifar10-pixelcnn"]["arguments"]["likelihood"]["class"] == "Categorical"
    assert found["mnist-made-deep"]["parameters"] == RECIPES["mnist-made-deep"]().parameters()


@pytest.mark.parametrize("name", RECIPES)
def test_training_follows_a_recipe(call: Call, tmp_path: Path, name: str) -> None:
    recipe, run = RECIPES[name](), tmp_path / "run"
    source = some(recipe, tmp_path / "small.npz")
    words = ["--recipe", name, "--data", source, "--steps", 2, "--batch-size", 4, "--out", run]
    check_wanted(name, recipe, load(source, binarize=BINARIZE.get(recipe.data.binarize)))
    words += ["--size", 8] if len(recipe.data.shape) == 3 else []  # samples are drawn on the way
    if recipe.arguments["classes"] is not None:
        words += ["--set", "classes=null"]
    done = call("train", *words, *smallest(recipe))
    assert done.status == 0, done.err
    assert f"recipe {name}: reported {recipe.expected} ({recipe.expected.source})" in done.err
    assert recipe.differs in done.err
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["name"] == name
    assert config["recipe"]["expected"]["value"] == recipe.expected.value
    assert config["data"]["options"]["binarize"] == recipe.data.binarize
    training = config["training"]
    assert (training["steps"], training["epochs"], training["minutes"], training["batch_size"]) == (2, None, None, 4)
    assert training["lr"] == recipe.training.get("lr", 3e-3)


def test_what_is_not_said_is_the_recipe_s(call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["--recipe", "digits-gated-pixelcnn", "--minutes", 0.01, "--set", "layers=1", "channels=6", "--out", run]
    assert call("train", *words, "--json").json["steps"] >= 1
    config = json.loads((run / "config.json").read_text())
    assert (config["data"]["source"], config["training"]["batch_size"]) == ("digits", 16)
    arguments = config["model"]["arguments"]
    assert (arguments["layers"], arguments["channels"], arguments["classes"]) == (1, 6, 10)

    resume = ["--out", run, "--resume"]
    assert call("train", "--recipe", "digits-gated-pixelcnn", *resume).status == 0
    assert call("train", "--set", "layers=1", "channels=6", *resume).status == 0
    assert json.loads((run / "config.json").read_text())["recipe"]["name"] == "digits-gated-pixelcnn"
    assert "has digits-gated-pixelcnn" in call("train", "--recipe", "mnist-made", *resume).error


def test_a_recipe_s_loss_is_followed_and_may_be_changed(call: Call, tmp_path: Path) -> None:
    recipe = RECIPES["mnist-hierarchical-vae"]()
    words = ["--recipe", "mnist-hierarchical-vae", "--data", some(recipe, tmp_path / "a.npz"), "--batch-size", 4]
    for name, more, says in (("own", [], "warm_up=10000"), ("other", ["--loss", "iwae(k=2)"], "iwae(k=2")):
        run = tmp_path / name
        assert call("train", *words, *smallest(recipe), "--steps", 2, "--size", 8, "--out", run, *more).status == 0
        assert says in json.loads((run / "config.json").read_text())["training"]["loss"]
        assert call("train", "--out", run, "--resume").status == 0


def test_data_may_be_changed_on_purpose(call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = RECIPES["cifar10-pixelcnn"]()
    source = some(recipe, tmp_path / "small.npz")
    words = ["--recipe", "cifar10-pixelcnn", "--data", source, "--steps", 1, *smallest(recipe)[:-1]]
    words = [word for word in words if "likelihood" not in str(word)]
    assert call("train", *words, "--size", 8, "--bits", 3, "--out", run, "--set", "final_channels=6").status == 0
    arguments = json.loads((run / "config.json").read_text())["model"]["arguments"]
    assert arguments["shape"] == [3, 8, 8]
    assert (likelihood := arguments["likelihood"])["class"] == "Categorical"
    assert likelihood["arguments"]["levels"] == 8


def test_every_option_excuses_what_it_changes_and_no_more(call: Call, tmp_path: Path) -> None:
    colour = npz(tmp_path / "colour.npz", train=np.random.default_rng(0).integers(256, size=(20, 3, 16, 16)))
    name, out = "cifar10-pixelcnn", tmp_path / "run"
    recipe = RECIPES[name]()
    for options, meant in (
        ({}, "--size"),
        ({"bits": 5}, "--size"),
        ({"size": 16}, ""),
        ({"size": 8, "bits": 5}, ""),
    ):
        found = load(colour, **options)
        if not meant:
            check_wanted(name, recipe, found, options)
            continue
        with pytest.raises(ValueError, match=rf"\({meant} would say that it is meant\)"):
            check_wanted(name, recipe, found, options)
    with pytest.raises(ValueError, match=r"\(--size and --bits or --binarize would say that it is meant\)"):
        check_wanted(name, recipe, load(colour, bits=5))
    words = ["--recipe", name, "--data", "digits", "--size", 32, "--binarize", "threshold", "--out", out]
    error = call("train", *words).error
    assert "got digits" in error
    assert "is meant" not in error  # nothing makes grey pictures RGB


def test_a_density_has_as_many_components(tmp_path: Path) -> None:
    recipe = RECIPES["imagenet32-pixelsnail"]()
    data = load(some(recipe, tmp_path / "small.npz"), dequantize=True)
    assert likelihood_for(recipe, data) == LogisticMixture(components=32)


def test_what_differs_from_the_paper_is_said(call: Call, tmp_path: Path) -> None:
    for name, words in (
        ("imagenet32-row-lstm", "1023 for 1024"),
        ("imagenet64-row-lstm", "513 for 512, 1023 for 1024"),
        ("cifar10-row-lstm", "129 for 128, 1023 for 1024"),
    ):
        assert f"in threes: {words};" in RECIPES[name]().differs
    out = call("recipes", "cifar10-pixelcnn++").out
    for words in ("160 features as in the authors' code", "DiscretizedLogisticMixture(levels=256", "2.92 bits/dim"):
        assert words in out
    found = call("recipes", "cifar10-pixelcnn++", "--json").json
    assert (found["name"], found["expected"]["value"]) == ("cifar10-pixelcnn++", 2.92)
    assert "did you mean 'mnist-made'?" in call("recipes", "mnist-mad").error


def test_wrong_use_is_one_line(call: Call, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "run"]
    x = np.random.default_rng(0).integers(256, size=(20, 3, 16, 16), dtype=np.uint8)
    other = npz(tmp_path / "other.npz", train=x)
    for words, status, says in (
        (["--recipe", "mnist-mde", "--data", other], 1, "did you mean 'mnist-made'?"),
        (["made", "--recipe", "mnist-made", "--data", other], 2, "give one of them"),
        (["--data", other], 2, "MODEL (or --recipe NAME) is missing"),
        (["--recipe", "mnist-made"], 2, "--data FILE is missing: mnist-made wants static binarized MNIST"),
        (["--recipe", "cifar10-pixelcnn", "--data", other], 1, "wants CIFAR-10, examples 3 x 32 x 32 of 256 levels"),
        (["--recipe", "mnist-pixelcnn", "--data", "digits"], 1, "1 x 8 x 8 of 17 levels"),
    ):
        done = call("train", *words, *out)
        assert done.status == status
        assert says in done.error
    assert not (tmp_path / "run").exists()


def test_a_table_is_what_its_recipe_wants(call: Call, tmp_path: Path) -> None:
    recipe = RECIPES["nips-made"]()
    source, out = some(recipe, tmp_path / "nips.npz"), ["--steps", 2, "--out", tmp_path / "run"]
    found = fingerprint(load(source), SPLITS)
    said = call("train", "--recipe", "nips-made", "--data", source, *out).err
    assert f"other examples than those of the reported number: checksum {found}, theirs is 2578495dd17ebfd1" in said
    same = replace(recipe, data=replace(recipe.data, checksum=found))
    assert same.data.differing(load(source)) is None
    assert checksum_line(same, load(source)) is None
    training = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    assert (training["weight_decay"], training["steps"]) == (recipe.training["weight_decay"], 2)
    assert "2578495dd17ebfd1" in call("recipes", "nips-made").out


def test_another_table_is_refused(call: Call, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    numbers, bits = npz(tmp_path / "numbers.npz", train=x), npz(tmp_path / "bits.npz", train=(x > 0).astype(np.uint8))
    for name, source, wants in (
        ("nips-made", bits, "of 500 columns of 2 levels"),
        ("nips-made", "digits", "of 500 columns of 2 levels"),
        ("kin8nm-made", numbers, "of 9 columns of continuous values"),
        ("power-plant-made", bits, "of 5 columns of continuous values"),
    ):
        error = call("train", "--recipe", name, "--data", source, "--out", tmp_path / "run").error
        assert wants in error
        assert "is meant" not in error
    assert "of 5 columns of continuous values" in call("recipes", "power-plant-made").out


@pytest.mark.parametrize("name", ["dna-made", "mushrooms-made", "nips-made", "wine-quality-red-made"])
def test_checksums_are_those_of_the_data(name: str, shared: Path, tmp_path: Path) -> None:
    wanted = RECIPES[name]().data
    path = tmp_path / f"{wanted.file}.npz"
    subprocess.run([sys.executable, shared / "tools" / "unpack.py", wanted.file, path], check=True)
    data = load(path)
    assert wanted.differing(data) is None
    check_wanted(name, RECIPES[name](), data)
    counts = " + ".join(f"{len(part):,}" for part in data.splits.values())
    assert counts in wanted.where or f"{sum(map(len, data.splits.values())):,} rows" in wanted.where
