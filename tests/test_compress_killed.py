"""`compress` and `decompress` killed at any moment: there is no output, or a complete one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ancestral import checkpoint, data, testing
from ancestral.data.restore import Pictures
from ancestral.likelihoods import Categorical
from calls import Call
from datafiles import integers, names, picture, pixels


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny model of grey pictures, with random weights."""
    folder = tmp_path_factory.mktemp("runs") / "grey"
    model = testing.tiny("gated-pixelcnn", shape=(1, 4, 4), likelihood=Categorical(256))
    source = data.Data("some", (1, 4, 4), 256, None, {}, (), Pictures(256))
    checkpoint.save(model, folder, data=source.describe())
    return folder


@pytest.mark.parametrize("after", [0.1, 0.5])
def test_killed_in_the_middle_there_is_nothing(grey: Path, tmp_path: Path, after: float) -> None:
    np.save(tmp_path / "x.npy", integers(256, (12000, 4, 4)))
    words = ["compress", str(grey), str(tmp_path / "x.npy"), "--out", str(tmp_path / "x.anc")]
    code = f"from ancestral.cli import main; main({words!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    begun = time.monotonic()
    while not list(tmp_path.glob(".x.anc.*.part")) and process.poll() is None and time.monotonic() < begun + 60:
        time.sleep(0.02)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "x.anc").exists()
    assert list(tmp_path.glob(".x.anc.*.part"))


KILLED = """
import contextlib, os, signal, sys
from ancestral.cli import main

here, suffix, *words = sys.argv[1:]

def killed_at(moment):
    def hook(event, given):
        nonlocal moment
        seen = event.startswith(("open", "os.", "tempfile.", "shutil."))
        if seen and any(str(one).startswith(here) for one in given):
            moment -= 1
            if moment < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    return hook

with contextlib.suppress(SystemExit):  # imports everything
    main([*words, "--out", f"{here[:-1]}-before{suffix}"])
for moment in range(1000):
    if (child := os.fork()) == 0:
        sys.addaudithook(killed_at(moment))
        main([*words, "--out", os.path.join(here, f"{moment}{suffix}")])
    if (status := os.waitpid(child, 0)[1]) != signal.SIGKILL:
        print(moment)
        sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")
@pytest.mark.parametrize(("command", "suffix"), [("compress", ".anc"), ("decompress", ""), ("decompress", ".npy")])
def test_killed_at_any_moment_there_is_nothing_or_all(
    call: Call, grey: Path, tmp_path: Path, command: str, suffix: str
) -> None:
    """Killed whenever it is about to open, make, rename or remove something of its output."""
    source, packed, here = tmp_path / "in", tmp_path / "x.anc", tmp_path / "here"
    wanted = {f"{name}.png": picture(source / f"{name}.png", (4, 4)) for name in ("a", "b", "sub/c")}
    if suffix == ".npy":
        source, wanted = tmp_path / "x.npy", {"x": integers(256, (4, 4, 4))}
        np.save(source, wanted["x"])
    call("compress", grey, source, "--out", packed, "--examples", 2)
    here.mkdir()
    words = [command, grey, source, "--examples", 2] if command == "compress" else [command, grey, packed]
    words = [sys.executable, "-c", KILLED, f"{here}{os.sep}", suffix, *words]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, found = int(done.stdout.split()[-1]), [path for path in here.iterdir() if not path.name.startswith(".")]
    assert kills > 2
    assert len(found) <= kills
    assert here / f"{kills}{suffix}" in found  # the one that was left alone
    for path in found:
        if command == "compress":
            call("decompress", grey, path, "--out", path.with_suffix(""))
        back = {"x": np.load(path)} if suffix == ".npy" else {}
        back = back or {name: pixels(path.with_suffix("") / name) for name in names(path.with_suffix(""))}
        assert set(back) == set(wanted)
        assert all(np.array_equal(back[name], x) for name, x in wanted.items())
