"""Every test starts from the same seed, an empty parameter store and Pyro's checks switched on."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pyro
import pytest
import torch

# Examples are the same in every run, and a busy machine is no failure.
hypothesis.settings.register_profile("gram_ppl", deadline=None, derandomize=True)
hypothesis.settings.load_profile("gram_ppl")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA")


@pytest.fixture(autouse=True)
def fresh_pyro() -> Iterator[None]:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)  # torch, random and numpy
    with pyro.validation_enabled(True):
        yield
    pyro.clear_param_store()
