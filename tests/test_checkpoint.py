import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ancestral
from ancestral import checkpoint
from ancestral.checkpoint import build, describe, from_pretrained, load, save
from ancestral.conditioning import Map, OneHot, Vector
from ancestral.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretizedLogisticMixture,
    GaussianMixture,
    LogisticMixture,
)
from ancestral.model import Model
from ancestral.models import MADE, MODELS, GatedPixelCNN

SMALL = {
    "made": {"shape": (3,), "likelihood": Categorical(4), "hidden": (5, 6), "masks": 2, "order_agnostic": True},
    "gated-pixelcnn": {"shape": (1, 3, 3), "likelihood": Categorical(4), "channels": 4, "layers": 1},
    "wavenet": {"shape": (1, 5), "likelihood": Categorical(4), "channels": 4, "layers": 2},
}


def small(name: str = "gated-pixelcnn", **more: object) -> Model:
    return MODELS[name](**SMALL.get(name, {"shape": (1, 3, 3), "likelihood": Categorical(4)}), **more)


def through_json(value: object) -> object:
    return json.loads(json.dumps(describe(value)))


@pytest.mark.parametrize(
    "value",
    [Bernoulli(), Categorical(17), DiscretizedLogisticMixture(256, 3), LogisticMixture(2), GaussianMixture(4)],
    ids=repr,
)
def test_likelihoods_round_trip(value: object) -> None:
    assert build(through_json(value)) == value


@pytest.mark.parametrize("value", [OneHot(classes=3), Vector(features=2), Map(channels=2, upsample=2)], ids=repr)
def test_conditioners_round_trip(value: torch.nn.Module) -> None:
    again = build(through_json(value))
    assert type(again) is type(value)
    assert describe(again) == describe(value)


@pytest.mark.parametrize("name", MODELS)
def test_models_round_trip(name: str, tmp_path: Path) -> None:
    model = small(name).eval()
    save(model, tmp_path, data={"source": "digits"})
    again = load(tmp_path)
    assert type(again) is type(model)
    assert describe(again) == describe(model)
    assert not again.training
    x = torch.randint(4, (5, *model.shape))
    with torch.random.fork_rng():  # a bound draws latents
        expected = model.log_prob(x)
    assert torch.equal(again.log_prob(x), expected)
    assert checkpoint.read_config(tmp_path)["data"] == {"source": "digits"}


@pytest.mark.parametrize("conditioner", [Vector(features=2), Map(channels=2)], ids=["vector", "map"])
def test_a_model_with_a_conditioner_round_trips(conditioner: torch.nn.Module, tmp_path: Path) -> None:
    model = small(conditioner=conditioner)
    save(model, tmp_path)
    x, context = torch.randint(4, (2, 1, 3, 3)), conditioner.example(2, (1, 3, 3))
    torch.testing.assert_close(load(tmp_path).log_prob(x, context), model.log_prob(x, context), rtol=0, atol=0)


def test_a_model_keeps_its_dtype(tmp_path: Path) -> None:
    save(small().double(), tmp_path)
    assert load(tmp_path).dtype == torch.float64


def test_a_checkpoint_holds_parameters_only(tmp_path: Path) -> None:
    model = MADE(shape=(50,), hidden=(64,), masks=8, order_agnostic=True)
    model.log_prob(torch.zeros(1, 50))
    save(model, tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == dict(model.named_parameters()).keys()
    size = 4 * sum(p.numel() for p in model.parameters())
    assert (tmp_path / "model.safetensors").stat().st_size < size + 2000
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    "description",
    [
        {"class": "system", "arguments": {"command": "true"}},
        {"class": "os.system", "arguments": {}},
        {"class": "torch.nn.modules.linear.Linear", "arguments": {"in_features": 1, "out_features": 1}},
        {"class": "OneHot"},
        {"class": ["OneHot"], "arguments": {}},
        {"arguments": {}},
    ],
)
def test_only_classes_of_this_library_are_built(description: dict) -> None:
    with pytest.raises(ValueError, match=r"^class .* is not one that ancestral .* can load: ") as error:
        build(description)
    assert "\n" not in str(error.value)


class Foreign(MADE):
    """A model of a user."""


def test_a_model_from_elsewhere_is_named_when_it_is_loaded(tmp_path: Path) -> None:
    save(Foreign(shape=(3,), hidden=(4,)), tmp_path)
    with pytest.raises(ValueError, match=r"config.json: class '.*\.Foreign' is not one"):
        load(tmp_path)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Categorical .* does not take the recorded arguments: .*colour"):
        build({"class": "Categorical", "arguments": {"colour": 3}})


def test_an_argument_that_cannot_be_recorded_is_refused() -> None:
    foreign = torch.nn.Linear(1, 1)
    foreign.features = 1
    with pytest.raises(ValueError, match="cannot record an argument of type Linear"):
        describe(small(conditioner=foreign))


def test_a_likelihood_alone_is_no_model(tmp_path: Path) -> None:
    save(small(), tmp_path)
    checkpoint.write_json(tmp_path / "config.json", {"model": describe(Categorical(4))})
    with pytest.raises(ValueError, match="describes no model"):
        load(tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such run folder"):
        load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"no config\.json in it"):
        load(tmp_path)
    save(small(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize("size", [0, 4, 60, -8])
def test_a_truncated_file_of_weights_is_refused(size: int, tmp_path: Path) -> None:
    save(small(), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or cut off: ") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff\xfe", b""])
def test_a_damaged_config_is_refused(text: bytes, tmp_path: Path) -> None:
    save(small(), tmp_path)
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged: ") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    save(small(), tmp_path)
    bomb = type("Bomb", (), {"__reduce__": lambda self: (os.system, (f"touch {tmp_path / 'exploded'}",))})
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(bomb.__new__(bomb)))
    with pytest.raises(ValueError, match="damaged"):
        load(tmp_path)
    assert not (tmp_path / "exploded").exists()


def renamed(tensors: dict) -> dict:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def shortened(tensors: dict) -> dict:
    return {**tensors, "out.bias": tensors["out.bias"][1:].clone()}


@pytest.mark.parametrize(
    "change", [renamed, shortened, lambda tensors: {**tensors, "more": torch.ones(1)}, lambda _: {}]
)
def test_weights_of_another_model_are_refused(change: object, tmp_path: Path) -> None:
    save(small(), tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(change(load_file(path)), path)
    with pytest.raises(ValueError, match="holds weights of another model: ") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_full_disk_leaves_the_previous_files_intact(tmp_path: Path) -> None:
    first = small()
    save(first, tmp_path)
    code = f"""
import resource, signal, torch
from ancestral.checkpoint import save
from ancestral.models import GatedPixelCNN
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
save(GatedPixelCNN(shape=(1, 3, 3), channels=16, layers=1), {str(tmp_path)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("OSError: cannot write ")
    assert "model.safetensors" in last
    assert "intact" in last
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]
    assert torch.equal(load(tmp_path).out.weight, first.out.weight)


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"^cannot write .*file/run/model\.safetensors: .*; what was there") as error:
        save(small(), tmp_path / "file" / "run")
    assert "\n" not in str(error.value)


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    save(small(), tmp_path)
    mode = {(tmp_path / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(mode) == 1


def test_pretrained_models_are_folders_too(tmp_path: Path) -> None:
    model = small()
    checkpoint.save_pretrained(model, tmp_path / "pretrained")
    again = from_pretrained(tmp_path / "pretrained", GatedPixelCNN)
    assert torch.equal(again.out.weight, model.out.weight)
    with pytest.raises(ValueError, match="holds a GatedPixelCNN, not a MADE"):
        from_pretrained(str(tmp_path / "pretrained"), MADE)


def test_a_pretrained_model_comes_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def snapshot_download(name: str, **options: object) -> str:
        asked.append((name, options))
        return str(tmp_path)

    save(small(), tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert isinstance(from_pretrained("someone/digits", revision="v1"), GatedPixelCNN)
    assert asked == [
        ("someone/digits", {"revision": "v1", "allow_patterns": ["config.json", "model.safetensors"]}),
    ]


@pytest.mark.parametrize("name", ["someone/digits", "no such/folder/at all"])
def test_a_pretrained_model_that_is_nowhere_is_one_clear_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=f"'{name}' is no folder, and no model could be downloaded") as error:
        from_pretrained(name)
    assert "\n" not in str(error.value)


def test_a_model_is_pushed_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    done = []

    class Api:
        def create_repo(self, repo_id: str, **options: object) -> None:
            done.append(repo_id)

        def upload_folder(self, *, repo_id: str, folder_path: str, **options: object) -> str:
            done.append((repo_id, sorted(os.listdir(folder_path)), describe(load(folder_path))))
            return f"https://example.org/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    model = small()
    assert checkpoint.push_to_hub(model, "me/digits") == "https://example.org/me/digits"
    assert done == ["me/digits", ("me/digits", ["config.json", "model.safetensors"], describe(model))]


def test_versions_are_recorded(tmp_path: Path) -> None:
    save(small(), tmp_path)
    assert checkpoint.read_config(tmp_path)["versions"]["ancestral"] == ancestral.__version__
