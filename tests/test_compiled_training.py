"""Compiled training: the loss and the gradients of the eager step."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ancestral import training
from ancestral.likelihoods import Categorical
from ancestral.model import Model
from ancestral.models import MODELS
from ancestral.objectives import Objective
from ancestral.testing import tiny
from ancestral.training import Summary, train
from calls import Call
from small_runs import assert_equal, causal, interrupting, pictures, recordings, tensors

LATENT = ("hierarchical-vae", "pixel-vae")
BREAKS = (*LATENT, "made")  # walks that are generators, and masks that are drawn, break the graph
SLOW = (*LATENT, "diagonal-bilstm", "multi-scale-pixelrnn", "pixelcnn++", "pixelsnail")
ALL = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in MODELS]


def step(objective: Objective, x: Tensor, context: Tensor | None) -> list[Tensor]:
    torch.manual_seed(1)
    loss = objective(x, context, 3)
    objective.zero_grad()
    loss.sum().backward()
    return [loss, *(p.grad for p in objective.parameters() if p.grad is not None)]


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # torch's, where a graph breaks
@pytest.mark.parametrize("name", ALL)
def test_a_traced_step_is_the_eager_step(name: str) -> None:
    classes = None if name in LATENT else 3
    eager = Objective(tiny(name, classes=classes).train())
    traced = copy.deepcopy(eager)
    traced.compile(backend="eager", fullgraph=name not in BREAKS)
    x = torch.randint(2, (4, *eager.model.shape))
    context = None if classes is None else torch.arange(4) % 3
    for a, b in zip(step(eager, x, context), step(traced, x, context), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [32, "bf16"])
def test_a_compiled_run_is_the_eager_run_to_rounding(precision: int | str, tmp_path: Path) -> None:
    runs = []
    for name, compiled in (("eager", False), ("compiled", True)):
        torch.manual_seed(0)
        model = MODELS["gated-pixelcnn"](shape=(1, 4, 3), likelihood=Categorical(4), channels=4, layers=1, classes=3)
        runs.append(train(model, pictures(), tmp_path / name, steps=4, precision=precision, compiled=compiled))
    eager, compiled = runs
    assert eager.valid_nats == pytest.approx(compiled.valid_nats, abs=0.05 if precision == "bf16" else 1e-4)
    weights = [tensors(tmp_path / name) for name in ("eager", "compiled")]
    assert weights[0].keys() == weights[1].keys()


@pytest.mark.slow
def test_a_compiled_run_that_was_interrupted_goes_on_exactly(tmp_path: Path) -> None:
    def small() -> Model:
        torch.manual_seed(0)
        return MODELS["gated-pixelcnn"](shape=(1, 4, 3), likelihood=Categorical(4), channels=4, layers=1, classes=3)

    train(small(), pictures(), tmp_path / "whole", steps=8, compiled=True)
    stopped = train(small(), pictures(), tmp_path / "parts", steps=8, compiled=True, on_progress=interrupting(4))
    assert stopped.interrupted
    train(small(), pictures(), tmp_path / "parts", resume=True, compiled=True)
    assert_equal(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))


@pytest.mark.slow
def test_windows_of_recordings_are_compiled(tmp_path: Path) -> None:
    found = [train(causal(), recordings(), tmp_path / str(c), steps=6, compiled=c).valid_nats for c in (False, True)]
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_the_command_compiles_if_asked(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def spying(*arguments: object, compiled: bool, **how: object) -> Summary:
        asked.append(compiled)
        return Summary(1, 1.0, 1.0, 1, 1, None, None, False, False, 0)

    monkeypatch.setattr(training, "train", spying)
    for more in ([], ["--compile"]):
        assert call("train", "made", "--data", "digits", "--steps", 1, "--out", tmp_path / "run", *more).status == 0
    assert asked == [False, True]
