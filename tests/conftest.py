"""What every test stands on: one thread, a fixed seed, the folder of benchmark data where there is one."""

import os
from collections.abc import Callable
from pathlib import Path

# Set before torch is imported, and inherited by processes that tests start: sums in a fixed order, steady times.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from calls import Done, exit_status

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command line in this process."""

    def run(*words: object) -> Done:
        capsys.readouterr()
        status = exit_status(*words)
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def seed() -> int:
    """Seed torch before each test, so that a test gives the same alone and among others."""
    torch.manual_seed(0)
    return 0


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared(root: Path) -> Path:
    """The folder of benchmark data beside the repository, which a clone elsewhere does not have."""
    folder = root.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("no folder ../shared/data beside the repository: its benchmark data is not part of it")
    return folder
