"""A fit to a label set that lies elsewhere gives the losses of a fit to the same set on disk, whatever the cache holds."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hdistill.data.labelsets.label_set import open_label_set
from hdistill.data.sharing.cache import ShardCache
from hdistill.trainer.evaluation.errors import evaluate_student
from hdistill.trainer.fitting import fit as fits, loggers
from hdistill.trainer.fitting.data import BlockCache
from hdistill.trainer.fitting.settings import FitSettings
from tests.data.published import label_set, web_server


def losses(run: Path) -> list[dict[str, str]]:
    with open(run / "log.csv") as stream:
        return [{k: v for k, v in row.items() if k != "cpu_seconds"} for row in csv.DictReader(stream)]


def test_evictions_while_fitting_change_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = label_set(tmp_path / "labels", n=60)
    settings = FitSettings(student="painn-small", steps=3, batch_size=4, validate_every=3)
    monkeypatch.setattr(loggers, "LOG_EVERY", 1)
    monkeypatch.setattr(
        "hdistill.trainer.fitting.data.BlockCache", lambda: BlockCache(1)
    )  # every block is read from its shard
    largest = max(shard.bytes for shard in open_label_set(labels).shards)
    fits.fit(labels, tmp_path / "local", settings, progress=False)
    with web_server(labels) as web:
        cache = ShardCache(tmp_path / "cache", 2 * largest)
        fits.fit(web.address, tmp_path / "remote", settings, progress=True, cache=cache)
        fetched = [name for name in web.asked if name.startswith("shards/")]
        assert len(fetched) > 6  # some of the six shards were evicted and fetched again
        assert losses(tmp_path / "remote") == losses(tmp_path / "local")
        assert len(losses(tmp_path / "local")) == 3
        for name in ("student.safetensors",):
            assert (tmp_path / "remote" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
        actual = evaluate_student(tmp_path / "local", web.address, cache=cache)
        assert actual == evaluate_student(tmp_path / "local", labels)
        assert web.address in (tmp_path / "remote" / "settings.json").read_text()
    assert "fetched many times" in capsys.readouterr().err
