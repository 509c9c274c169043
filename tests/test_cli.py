"""The command line: what it prints and where, its exit status, and one clear line for every mistake of a user."""

import io
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ancestral import checkpoint, data, testing
from ancestral.cli.console import print_json
from ancestral.cli.settings import build_model, default_likelihood, likelihood_of
from ancestral.cli.values import literal
from ancestral.data.restore import Arrays
from ancestral.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture, GaussianMixture
from ancestral.models import MADE, MODELS, GatedPixelCNN
from ancestral.report.words import citation
from ancestral.runs import Run, in_units, open_run, relabelled
from calls import Call, Done, exit_status

COMMANDS = (
    "train",
    "evaluate",
    "sample",
    "complete",
    "encode",
    "export",
    "compress",
    "decompress",
    "verify",
    "report",
    "models",
    "data",
    "recipes",
)


@pytest.fixture(scope="module")
def digits() -> data.Data:
    return data.load("digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digits: data.Data) -> Path:
    """A run of a tiny class-conditional model with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "digits"
    model = testing.tiny("gated-pixelcnn", shape=(1, 8, 8), likelihood=Categorical(17), classes=10)
    checkpoint.save(model, folder, data=digits.describe())
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A continuous table."""
    path = tmp_path_factory.mktemp("data") / "table.csv"
    values = np.random.default_rng(0).normal([3.0, -1.0, 100.0], [1.0, 0.1, 20.0], (200, 3))
    np.savetxt(path, values, delimiter=",", header="a,b,c", comments="", fmt="%.6f")
    return path


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    """A run of a tiny model of the table."""
    folder = tmp_path_factory.mktemp("runs") / "table"
    model = testing.tiny("made", shape=(3,), likelihood=GaussianMixture(components=2))
    checkpoint.save(model, folder, data=data.load(table).describe())
    return folder


# --- the frame ----------------------------------------------------------------------------------------------------


def test_help_needs_nothing_heavy() -> None:
    code = """import sys
from ancestral.cli import main
from ancestral.cli.console import print_json
try:
    main(["train", "--help"])
except SystemExit as stop:
    print(stop.code, *(name for name in ("torch", "numpy", "matplotlib", "PIL", "accelerate") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert "--minutes" in done.stdout


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)], ids=str)
def test_help(call: Call, words: list[str]) -> None:
    done = call(*words)
    assert done.status == 0
    assert "Usage: ancestral" in done.out
    if len(words) < 2:
        assert all(name in done.out for name in COMMANDS)
    else:
        assert "--json" in done.out


def test_version(call: Call) -> None:
    from ancestral import __version__

    assert call("--version") == (0, f"{__version__}\n", "")


def test_wrong_usage_is_two_and_says_the_nearest(call: Call, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    for words, says in (
        (["trian"], "Did you mean 'train'"),
        (["evaluate", run, "--splt", "test"], "--split"),
        (["evaluate", run, "--split", "tset"], "'test'"),
        (["train", "made", "--data", "digits"], "--out"),
        (["train", "made", "--out", tmp_path / "run"], "--data"),
        (["train", "--data", "digits", "--out", tmp_path / "run"], "MODEL"),
        (["train", "made", "--data", "digits", "--out", tmp_path, "--steps", 1, "--epochs", 1], "one of them"),
        (["sample", run, "--out", out, "-n", 0], "-n"),
        (["sample", run, "--out", out, "--temperature", -1], "--temperature"),
        (["sample", run, "--out", out, "-n", "many"], "-n"),
    ):
        done = call(*words)
        assert done.status == 2
        assert says in done.error
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(call: Call) -> None:
    for words in (["evaluate", "nowhere", "--debug"], ["--debug", "evaluate", "nowhere"]):
        done = call(*words)
        assert done.status == 1
        assert "Traceback" in done.err
        assert done.err.splitlines()[-1] == "error: no such run folder: nowhere"


def test_our_own_mistakes_are_one_line_too(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ancestral.evaluation.evaluate", lambda *args, **kwargs: {}["nothing"])
    done = call("evaluate", run)
    assert done.status == 1
    assert done.error == "a mistake of Ancestral: KeyError: 'nothing' (--debug shows where)"


def test_what_is_printed_meanwhile_goes_to_stderr(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ancestral import evaluation

    def noisy(*args: Any, evaluate: Any = evaluation.evaluate, **kwargs: Any) -> Any:
        print("noise")
        return evaluate(*args, **kwargs)

    monkeypatch.setattr("ancestral.evaluation.evaluate", noisy)
    done = call("evaluate", run, "--limit", 5, "--json")
    assert done.json["count"] == 5
    assert "noise" in done.err


def test_json_knows_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [float("nan"), (1.5, float("inf"))], "b": Path("x")})
    assert capsys.readouterr().out == '{"a": [null, [1.5, null]], "b": "x"}\n'


def test_interruption(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ancestral.evaluation.evaluate", interrupted)
    assert call("evaluate", run).status == 130


# --- from training to a report ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A run that was trained for a few steps, and what training said."""
    folder, out, err = tmp_path_factory.mktemp("trained") / "run", io.StringIO(), io.StringIO()
    small = ["--set", "layers=2", "channels=8", "--set", "kernel_size=3"]
    with redirect_stdout(out), redirect_stderr(err):
        status = exit_status("train", "gated-pixelcnn", "--data", "digits", "--out", folder, "--steps", 8, *small)
    return folder, Done(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def trained(training: tuple[Path, Done]) -> Path:
    return training[0]


def test_train(training: tuple[Path, Done]) -> None:
    folder, done = training
    assert done.status == 0, done.err
    assert "1,258 train, 179 valid, 360 test; examples 1 x 8 x 8 of 17 levels, 10 classes" in done.err
    assert "channels=8, layers=2, kernel_size=3, classes=10" in done.err
    assert "bits/dim" in done.out
    assert done.out.startswith("8 steps in ")
    assert done.out.splitlines()[-1] == f"next: ancestral evaluate {folder}"


def test_a_loss_that_does_not_fit_leaves_nothing(call: Call, tmp_path: Path) -> None:
    done = call("train", "made", "--data", "digits", "--steps", 2, "--loss", "iwae(k=2)", "--out", tmp_path / "run")
    assert done.status == 1
    assert "MADE has none: its loss is nll" in done.err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_result_worse_than_none_is_said(call: Call, tmp_path: Path) -> None:
    few = ["--steps", 2, "--lr", 30, "--set", "hidden=8", "likelihood=Categorical(17)"]
    done = call("train", "made", "--data", "digits", *few, "--out", tmp_path / "run")
    assert "worse than all levels alike (4.087): train for longer, or with a smaller --lr" in done.out


def test_the_package_is_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "ancestral", "models"], capture_output=True, text=True, check=True)
    assert "pixel-vae" in done.stdout


def test_from_evaluation_to_report(call: Call, trained: Path, tmp_path: Path) -> None:
    done = call("evaluate", trained, "--limit", 50)
    assert "50 of 360 examples of the test part of digits, exact log-likelihood" in done.out
    assert "given the label" in done.out
    assert "baseline: uniform" in done.out
    found = json.loads((trained / "evaluation-test-limit50.json").read_text())
    assert found["count"] == 50
    assert f"{found['bits_per_dim']:.3f}"[:4] in done.out

    assert call("sample", trained, "--out", tmp_path / "s.png").status == 0
    assert call("complete", trained, "--known", "top", "-n", 3, "--out", tmp_path / "c.png").status == 0
    assert call("verify", trained).status == 0
    done = call("report", trained)
    assert done.out == f"written: {trained / 'report.html'}\n"
    page = (trained / "report.html").read_text()
    assert all(f"<h2>{title}</h2>" in page for title in ("How likely", "Training", "Samples", "Completions", "Timings"))


def test_a_report_advises_no_option_that_it_lacks(call: Call, tmp_path: Path, digits: data.Data) -> None:
    model = testing.tiny("multi-scale-pixelrnn", shape=(1, 8, 8), likelihood=Categorical(17), classes=10)
    checkpoint.save(model, tmp_path / "run", data=digits.describe())
    assert "proposals" in call("complete", tmp_path / "run", "--known", "top", "--out", tmp_path / "c.png").err
    done = call("report", tmp_path / "run")
    assert done.status == 0
    assert done.err == ""


def test_resume_needs_only_the_folder(call: Call, trained: Path) -> None:
    assert call("train", "--out", trained, "--resume", "--json").json["steps"] == 8
    same = ["gated-pixelcnn", "--data", "digits", "--set", "layers=2"]
    assert call("train", *same, "--out", trained, "--resume").status == 0
    for words, says in (
        (["made"], "MODEL made: the run in"),
        (["--set", "layers=3"], "--set layers=3"),
        (["--set", "classes=null"], "has 10"),
        (["--data", "photos"], "has digits"),
        (["--bits", 2], "--bits 2"),
        (["--seed", 5], "seed"),
    ):
        done = call("train", *words, "--out", trained, "--resume")
        assert done.status == 1
        assert says in done.error
    assert "--resume" in call("train", *same, "--out", trained).error


def test_seed_gives_the_weights(call: Call, tmp_path: Path) -> None:
    words = ["train", "made", "--data", "digits", "--steps", 1, "--set", "hidden=8"]
    weights = []
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert call(*words, "--out", tmp_path / out, "--seed", seed).status == 0
        weights.append((tmp_path / out / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_json_of_every_command(call: Call, run: Path, tmp_path: Path) -> None:
    assert call("models", "--json").json["made"]["arxiv"] == "1502.03509"
    assert call("models", "made", "--json").json["arguments"]["hidden"] == "500"
    assert "digits" in call("data", "--json").json
    assert call("evaluate", run, "--limit", 3, "--json").json["count"] == 3
    sampled = call("sample", run, "-n", 3, "--context", "7", "--out", tmp_path / "s.npz", "--json").json
    assert sampled["labels"] == ["7", "7", "7"]
    completed = call("complete", run, "--known", "left", "-n", 1, "--out", tmp_path / "c.png", "--json").json
    assert completed["known"] == 32
    assert call("verify", run, "--json").json["passed"] is True
    assert Path(call("report", run, "--json").json["written"]).exists()


def test_lists(call: Call) -> None:
    assert "gated-pixelcnn" in call("models").out
    assert "--set" in call("models", "made").out
    assert "photos" in call("data").out


@pytest.mark.parametrize("name", MODELS)
def test_every_model_cites_its_paper(name: str) -> None:
    paper = citation(MODELS[name])
    assert re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv)
    assert paper.title
    assert paper.authors


@pytest.mark.parametrize("name", MODELS)
def test_arguments_are_those_that_can_be_set(call: Call, name: str) -> None:
    text = call("models", name).out
    named = re.findall(r"^    (\w+): ", text, re.MULTILINE)
    assert set(named) == set(call("models", name, "--json").json["arguments"])
    assert "instead of `classes`" not in text  # the second line of one that cannot
    assert not any(word in text for word in (">>>", "Raises", "array(", "tensor("))


# --- samples and completions --------------------------------------------------------------------------------------


def test_sample_writes_arrays_that_data_reads_again(call: Call, run: Path, tmp_path: Path) -> None:
    assert call("sample", run, "-n", 25, "--out", tmp_path / "s.npz", "--seed", 3).status == 0
    arrays = np.load(tmp_path / "s.npz")
    assert arrays["x"].shape == (25, 1, 8, 8)
    assert arrays["x_label"].tolist() == sorted(i % 10 for i in range(25))
    assert data.load(tmp_path / "s.npz").shape == (1, 8, 8)
    call("sample", run, "-n", 25, "--out", tmp_path / "again.npz", "--seed", 3)
    call("sample", run, "-n", 25, "--out", tmp_path / "other.npz", "--seed", 4)
    assert np.array_equal(np.load(tmp_path / "again.npz")["x"], arrays["x"])
    assert not np.array_equal(np.load(tmp_path / "other.npz")["x"], arrays["x"])


def test_sample_of_a_table_has_its_columns(call: Call, table_run: Path, tmp_path: Path) -> None:
    assert call("sample", table_run, "-n", 4, "--out", tmp_path / "new" / "s.csv").status == 0
    lines = (tmp_path / "new" / "s.csv").read_text().splitlines()
    assert lines[0] == "a,b,c"
    assert len(lines) == 5


def test_samples_need_no_data(call: Call, run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    config = json.loads((moved / "config.json").read_text())
    config["data"]["source"] = "gone.npz"
    (moved / "config.json").write_text(json.dumps(config))
    assert call("sample", moved, "-n", 2, "--out", tmp_path / "s.png").status == 0
    assert "gone.npz" in call("evaluate", moved).error


def test_complete_a_picture_with_a_mask(call: Call, run: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (16, 16), 200).save(tmp_path / "grey.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 5:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = ["complete", run, "--known", tmp_path / "mask.png", "--input", tmp_path / "grey.png", "-n", 2]
    done = call(*words, "--context", 3, "--out", tmp_path / "c.png")
    assert done.status == 0
    assert "proposals" in done.err  # what is known comes after what is not
    several = ["--context", 3, "--proposals", 4, "--out", tmp_path / "c.png"]
    assert "effective sample size" in call(*words, *several).err
    words[words.index("--known") + 1] = "top"
    done = call(*words, *several)
    assert "nothing is known after what is drawn: proposals change nothing" in done.err
    assert "effective" not in done.err
    assert "--context" in call(*words, "--out", tmp_path / "c.png").error


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["gated-pixelcn", "--data", "digits"],
            "unknown model 'gated-pixelcn' (did you mean 'gated-pixelcnn'?); there are",
        ),
        (["made", "--data", "digts"], "did you mean 'digits'?"),
        (["made", "--data", "nothing.npz"], "no such file or folder: 'nothing.npz'"),
        (["made", "--data", "empty"], "it is empty"),
        (["made", "--data", "digits", "--set", "hiden=3"], "did you mean 'hidden'?"),
        (["made", "--data", "digits", "--set", "hidden"], "name=value"),
        (["made", "--data", "digits", "--set", "hidden=wide"], "numbers separated by commas"),
        (["made", "--data", "digits", "--set", "direct=yes"], "true or false"),
        (["made", "--data", "digits", "--set", "shape=3"], "the data gives the shape"),
        (["made", "--data", "digits", "--set", "likelihood=Categorial"], "did you mean 'Categorical'?"),
        (["made", "--data", "digits", "--set", "likelihood=GaussianMixture"], "does not fit 17 levels"),
        (["made", "--data", "digits", "--set", "likelihood=exit()"], "unknown likelihood 'exit'"),
        (
            ["made", "--data", "digits", "--set", "likelihood=Categorical(levels=16)"],
            "likelihood Categorical(levels=16): the data has 17 levels; leave levels out",
        ),
        (["made", "--data", "digits", "--set", "classes=3"], "classes"),
        (["gated-pixelcnn", "--data", "digits", "--set", "layers=0"], "layers must be"),
        (["made", "--data", "digits", "--lr", "-1"], "lr must be positive"),
        (["made", "--data", "digits", "--minutes", "0"], "minutes must be positive"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_mistakes_of_train(
    call: Call, words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    done = call("train", *words, "--out", "run")
    assert done.status == 1
    assert says in done.error
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there(call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for words in (["train", "made", "--data", "digits", "--out", tmp_path / "run"], ["evaluate", run]):
        assert "no GPU" in call(*words, "--device", "cuda").error


def test_what_is_no_run(call: Call, run: Path, tmp_path: Path) -> None:
    assert "no such run folder" in call("evaluate", tmp_path / "nowhere").error
    assert "no run folder" in call("evaluate", tmp_path).error
    cut = tmp_path / "cut"
    shutil.copytree(run, cut)
    weights = (run / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "damaged" in call("sample", cut, "--out", tmp_path / "s.png").error
    (cut / "model.safetensors").write_bytes(weights)
    config = json.loads((run / "config.json").read_text())
    config["model"]["arguments"]["layers"] = 3
    (cut / "config.json").write_text(json.dumps(config))
    assert "another model" in call("evaluate", cut).error
    del config["data"]
    (cut / "config.json").write_text(json.dumps(config))
    assert "no run of ancestral train" in call("evaluate", cut).error
    assert not (tmp_path / "s.png").exists()


def test_other_data_must_fit(call: Call, run: Path, digits: data.Data, tmp_path: Path) -> None:
    x, labels = digits.batch("test", torch.arange(40))
    own = call("evaluate", run, "--json").json
    np.savez(tmp_path / "same.npz", test=x.short(), test_label=labels)
    assert call("evaluate", run, "--data", tmp_path / "same.npz", "--json").json["count"] == 40
    assert json.loads((run / "evaluation-test.json").read_text())["nats"] == own["nats"]  # beside it, not over it
    call("evaluate", run, "--limit", 5)
    assert json.loads((run / "evaluation-test.json").read_text())["nats"] == own["nats"]  # nor is a part of it
    np.savez(tmp_path / "classes.npz", test=x.short(), test_label=np.arange(40) % 12)
    assert "has the class '10'" in call("evaluate", run, "--data", tmp_path / "classes.npz").error
    np.savez(tmp_path / "levels.npz", test=x.byte() * 15, test_label=labels)
    assert "levels 256" in call("evaluate", run, "--data", tmp_path / "levels.npz").error
    np.savez(tmp_path / "large.npz", test=np.tile(x.short(), (1, 1, 2, 2)), test_label=labels)
    assert "shape [1, 16, 16]" in call("evaluate", run, "--data", tmp_path / "large.npz").error
    np.savez(tmp_path / "unlabelled.npz", test=x.short())
    assert "no labels" in call("evaluate", run, "--data", tmp_path / "unlabelled.npz").error


def test_mistakes_with_files(call: Call, run: Path, table_run: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (9, 8), 255).save(tmp_path / "wide.png")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    out = ["--out", tmp_path / "x.png"]
    for words, says in (
        (["sample", run, "--out", tmp_path / "x.jpg"], ".png, .npz, .npy"),
        (["sample", table_run, *out], ".csv, .npz, .npy"),
        (["sample", run, *out, "--context", "ten"], "no such class"),
        (["sample", run, *out, "--context", "10"], "no such class"),
        (["sample", table_run, "--out", tmp_path / "x.csv", "--context", "1"], "unconditional"),
        (["sample", table_run, "--out", tmp_path / "x.csv", "--temperature", "0.5"], "continuous"),
        (["complete", run, "--known", "tpo", *out], "did you mean 'top'?"),
        (["complete", run, "--known", tmp_path / "wide.png", *out], "the mask is 9x8 pixels, it takes 8x8"),
        (["complete", run, "--known", "top", "--out", tmp_path / "x.npz"], ".png"),
        (["complete", run, "--known", "top", *out, "--context", 1, "--input", tmp_path / "red.png"], "in colour"),
        (
            ["complete", run, "--known", "top", *out, "--context", 1, "--input", tmp_path / "broken.png"],
            "cannot be read",
        ),
        (["complete", run, "--known", "top", *out, "--context", 1, "--input", tmp_path / "no.png"], "no such picture"),
        (["complete", table_run, "--known", "top", *out], "no run of pictures"),
        (["models", "mdae"], "did you mean 'made'?"),
    ):
        done = call(*words)
        assert done.status == 1
        assert says in done.error
    assert not list(tmp_path.glob("x.*"))


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, which the kernel refuses as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk(call: Call, run: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with full_disk(256):
        done = [
            call("report", run),
            call("sample", run, "--out", tmp_path / "s.png"),
            call("sample", run, "--out", tmp_path / "s.npz"),
            call("sample", run, "--out", tmp_path / "s.npy"),
            call("complete", run, "--known", "top", "--out", tmp_path / "c.png"),
            call("train", "made", "--data", "digits", "--steps", 1, "--out", tmp_path / "run"),
        ]
    assert [d.status for d in done] == [1] * len(done)
    assert all("cannot write" in d.error and "File too large" in d.error for d in done)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_was_found_is_told_where_it_cannot_be_written(call: Call, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    for command, name, key in (
        ("evaluate", "evaluation-test.json", "bits_per_dim"),
        ("verify", "verify.json", "passed"),
    ):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()  # nothing can be written there
        done = call(command, folder, "--json")
        assert done.status == 1
        assert done.json[key]
        assert "written" not in done.json
        assert done.err.splitlines()[-1].startswith(f"error: cannot write {folder / name}")


def test_a_folder_that_cannot_be_written(call: Call, run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words in (
        ["train", "made", "--data", "digits", "--steps", 1, "--out", tmp_path / "file" / "run"],
        ["sample", run, "--out", tmp_path / "file" / "s.png"],
        ["sample", run, "--out", tmp_path / "file" / "s.npy"],
    ):
        done = call(*words)
        assert done.status == 1
        assert "file" in done.error


def test_verify_fails_with_status_one(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = testing.Check(1, "no leak", "failed", "it leaks")
    monkeypatch.setattr("ancestral.testing.outcomes", lambda model: [failed])
    done = call("verify", run, "--json")
    assert done.status == 1
    assert done.json["passed"] is False
    assert "it leaks" in call("verify", run).out


# --- settings and other data --------------------------------------------------------------------------------------


def like(shape: tuple[int, ...], levels: int | None) -> data.Data:
    """Data of a shape and levels, without examples."""
    return data.Data("some", shape, levels, None, {}, (), Arrays(levels))


@pytest.mark.parametrize(
    ("model", "shape", "levels", "likelihood"),
    [
        (GatedPixelCNN, (1, 8, 8), 2, Bernoulli()),
        (GatedPixelCNN, (1, 8, 8), 17, Categorical(17)),
        (GatedPixelCNN, (1, 8, 8), 256, Categorical(256)),
        (GatedPixelCNN, (1, 8, 8), 65536, DiscretizedLogisticMixture(65536)),
        (GatedPixelCNN, (3, 8, 8), 32, Categorical(32)),
        (GatedPixelCNN, (3, 8, 8), 256, DiscretizedLogisticMixture(256)),
        (MADE, (1, 8, 8), 17, DiscretizedLogisticMixture(17)),
        (MADE, (1, 8, 8), 256, DiscretizedLogisticMixture(256)),
        (MADE, (5,), 100, Categorical(100)),
        (MADE, (5,), None, GaussianMixture()),
    ],
)
def test_default_likelihood(model: Any, shape: tuple[int, ...], levels: int | None, likelihood: Any) -> None:
    assert default_likelihood(model, like(shape, levels)) == likelihood


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3e-4", 3e-4),
        ("500,500", (500, 500)),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("a b", "a b"),
    ],
)
def test_literal(text: str, value: Any) -> None:
    assert literal(text) == value


def test_settings_become_arguments(digits: data.Data) -> None:
    settings = ["hidden=7", "masks=null", "order_agnostic=true", "likelihood=DiscretizedLogisticMixture(components=3)"]
    arguments = build_model("made", digits, settings).arguments
    assert arguments["hidden"] == (7,)
    assert arguments["masks"] is None
    assert arguments["order_agnostic"] is True
    assert arguments["likelihood"] == DiscretizedLogisticMixture(17, components=3)
    assert arguments["classes"] == 10
    assert build_model("made", digits, ["classes=null", "hidden=3,4"]).arguments["classes"] is None


@pytest.mark.parametrize(
    ("text", "likelihood"),
    [
        ("Categorical", Categorical(17)),
        ("Categorical(17)", Categorical(17)),
        ("Categorical(couples_channels=true)", Categorical(17, couples_channels=True)),
        ("Categorical(17, false)", Categorical(17)),
        ("DiscretizedLogisticMixture(17, 5)", DiscretizedLogisticMixture(17, 5)),
        ("DiscretizedLogisticMixture(17, components=5)", DiscretizedLogisticMixture(17, 5)),
    ],
)
def test_likelihoods_take_values_as_settings_do(text: str, likelihood: Any) -> None:
    assert likelihood_of(text, like((1, 8, 8), 17)) == likelihood


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Categorical(levels=f())", "levels=f(): it takes an integer"),
        ("Categorical(couples_channels=3)", "couples_channels=3: it takes true or false"),
        ("DiscretizedLogisticMixture(components=null)", "components=null: it takes an integer"),
        ("DiscretizedLogisticMixture(256)", "(levels=256): the data has 17 levels; leave levels out"),
        ("Categorical(17, levels=17)", "levels is given twice"),
        ("Categorical(1, 2, 3)", "takes no 3 arguments; it has levels, couples_channels"),
        ("Categorical(level=17)", "no argument 'level' (did you mean 'levels'?); it has levels"),
        ("Categorical(**x)", "no argument 'None'"),
    ],
)
def test_bad_values_of_likelihoods_are_named(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        likelihood_of(text, like((1, 8, 8), 17))


@pytest.mark.parametrize("text", ["__import__('os').system('true')", "Categorical[17]", "(", ""])
def test_nothing_is_evaluated(text: str) -> None:
    with pytest.raises(ValueError, match=r"it takes a name, or Name\(argument=value\)"):
        likelihood_of(text, like((1, 8, 8), 17))


def test_other_tables_come_in_the_units_of_the_run(table: Path, table_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    values = np.random.default_rng(1).normal([5.0, 0.0, 50.0], 1.0, (100, 3))
    np.savetxt(other, values, delimiter=",", header="a,b,c", comments="", fmt="%.6f")
    own = open_run(table_run)
    found = own.data(str(other))
    raw = data.load(other)
    units = raw.restore(raw.split("test").x)
    assert np.allclose(own.restore(found.split("test").x), units, atol=1e-4)
    assert not torch.allclose(found.split("test").x, raw.split("test").x)
    np.savetxt(other, values, delimiter=",", header="a,b,d", comments="", fmt="%.6f")
    with pytest.raises(ValueError, match="other columns"):
        in_units(data.load(other), own.restore)


def test_labels_are_matched_by_name() -> None:
    part = data.Split(torch.zeros(3, 1), torch.tensor([0, 1, 0]))
    mine = data.Data("mine", (1,), 2, ("dog", "bird"), {"test": part}, (), Arrays(2))
    found = relabelled(mine, ("bird", "cat", "dog"))
    assert found.split("test").labels.tolist() == [2, 0, 2]
    assert found.classes == ("bird", "cat", "dog")
    with pytest.raises(ValueError, match="the class 'dog'"):
        relabelled(mine, ("bird", "cat"))


def test_a_class_by_name_or_number(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["data"]["classes"] = ["1", "0", *(f"class {i}" for i in range(2, 10))]
    named = Run(run, open_run(run).model, config)
    assert named.label("1") == 0  # a name goes first
    assert named.label("class 7") == 7
    assert named.label("7") == 7
    with pytest.raises(ValueError, match="did you mean 'class 7'"):
        named.label("clas 7")


def test_a_run_finds_its_data_from_any_folder(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    rows = np.random.default_rng(0).integers(2, size=(60, 4))
    np.savez(tmp_path / "here" / "rows.npz", x=rows)
    np.savez(tmp_path / "here" / "other.npz", x=1 - rows)
    monkeypatch.chdir(tmp_path / "here")
    words = ["train", "made", "--data", "rows.npz", "--steps", 2, "--set", "hidden=4", "--out", tmp_path / "run"]
    assert call(*words).status == 0
    monkeypatch.chdir(tmp_path / "there")
    done = call("evaluate", tmp_path / "run")
    assert done.status == 0, done.err
    assert "of rows.npz" in done.out
    resume = ["train", "--out", tmp_path / "run", "--resume"]
    assert call(*resume).status == 0
    assert call(*resume, "--data", "../here/rows.npz").status == 0
    assert "the run in" in call(*resume, "--data", "../here/other.npz").error


def test_an_occupied_folder_is_said_before_the_data_is_read(call: Call, run: Path) -> None:
    assert "already holds a run" in call("train", "made", "--data", "nothing.npz", "--out", run).error


def test_damaged_records_are_named(call: Call, run: Path, tmp_path: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    for restore in ({}, None, {"class": "Pictures"}, {"class": "Pictures", "arguments": {"depth": 2}}):
        shutil.copytree(run, tmp_path / "run", dirs_exist_ok=True)
        changed = config | {"data": config["data"] | {"restore": restore}}
        (tmp_path / "run" / "config.json").write_text(json.dumps(changed))
        error = call("sample", tmp_path / "run", "--out", tmp_path / "s.png").error
        assert f"{tmp_path / 'run' / 'config.json'} is damaged: restore" in error
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    for name in ("evaluation-test.json", "verify.json"):
        (tmp_path / "run" / name).write_text("{}")
        assert f"{tmp_path / 'run' / name} is damaged" in call("report", tmp_path / "run").error
        (tmp_path / "run" / name).unlink()
