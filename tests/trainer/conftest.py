"""Label sets of Lennard-Jones labels, and one student fitted to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hdistill.trainer.fitting.fit import FitResult, fit
from hdistill.trainer.fitting.settings import FitSettings
from tests.data.samples import write_label_set
from tests.trainer.structures import argon_samples


@pytest.fixture(scope="session")
def argon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 argon clusters with four probes each, in three shards."""
    return write_label_set(tmp_path_factory.mktemp("argon") / "labels", argon_samples(120), per_shard=40)


@pytest.fixture(scope="session")
def fitted(argon: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """painn-small after 150 steps on `argon`, Hessian term included."""
    settings = FitSettings(student="painn-small", steps=150, warmup=10, validate_every=50, batch_size=8)
    return fit(argon, tmp_path_factory.mktemp("runs") / "run", settings, progress=False)


@pytest.fixture(scope="session")
def compiled_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of machine code, one for all tests that build some: a build takes 20 s and more."""
    folder = tmp_path_factory.mktemp("machine-code")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HDISTILL_CACHE", str(folder))
        yield folder
