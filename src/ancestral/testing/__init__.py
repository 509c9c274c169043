"""The public contract of a model, as checks that anyone can run: `check_model(model)`.

Small instances are rebuilt from the model's recorded arguments: other sizes, tiny spaces that can be enumerated,
float64, every parameter drawn at random, and once more after a few steps of training. A likelihood that looks too
good is a leak until proven otherwise; these checks are the proof. Of models with latent variables they prove the bound.

>>> from ancestral.testing import check_model, tiny
>>> [check.status for check in check_model(tiny("made"))][:6]
['passed', 'passed', 'passed', 'passed', 'passed', 'passed']
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from ancestral.model import Model
from ancestral.testing.contract import changed_by, contract_of
from ancestral.testing.instances import NotApplicable, every_x, order_of, random_x, randomized, tiny

__all__ = ["Check", "changed_by", "check_model", "every_x", "order_of", "outcomes", "random_x", "randomized", "tiny"]


class Check(NamedTuple):
    """The outcome of one check: its number in the contract, its name, passed | failed | not applicable, and why."""

    number: int
    name: str
    status: str
    detail: str


def check_model(model: Model, *, seed: int = 0) -> list[Check]:
    """Check that a model keeps the contract, in seconds.

    Args:
        model: any model; it is not changed. Its own weights are checked for leaks, normalisation and the equality of
            the walk and the parallel pass; everything else is checked on small instances built from its arguments.
        seed: of the weights and data of the checks.

    Returns:
        The outcome of each check.

    Raises:
        AssertionError: a check failed; the message names them all.
    """
    results = list(outcomes(model, seed=seed))
    failed = [f"{r.number}. {r.name}: {r.detail}" for r in results if r.status == "failed"]
    if failed:
        raise AssertionError(f"{type(model).__name__} breaks the contract\n" + "\n".join(failed))
    return results


def outcomes(model: Model, *, seed: int = 0) -> Iterator[Check]:
    """Yield the outcome of each check as `check_model` runs it, failures included."""
    for number, (name, check) in contract_of(model).items():
        yield outcome(number, name, check, model, seed)


def outcome(number: int, name: str, check: "Callable[[Model], str]", model: Model, seed: int) -> Check:
    """Run one check with the random state put aside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return Check(number, name, "passed", check(model))
        except NotApplicable as reason:
            return Check(number, name, "not applicable", f"because {reason}")
        except AssertionError as failure:
            return Check(number, name, "failed", str(failure))
        except Exception as crash:  # a model that crashes breaks the contract as well
            return Check(number, name, "failed", f"{type(crash).__name__}: {crash}")
