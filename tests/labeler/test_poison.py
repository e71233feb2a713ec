"""Poison among 200 structures: every culprit is named with the right reason, every innocent is labelled, no worker is lost."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import RunSettings, label
from tests.labeler import poison
from tests.labeler.conftest import clusters, with_element, write_extxyz

CULPRITS = {  # element: how many, reason, words
    poison.SEGFAULT: (10, "teacher crashed", "SIGSEGV"),
    poison.HANG: (2, "teacher hung", "no answer within"),
    poison.MEMORY: (2, "out of memory", "does not fit into memory"),
    poison.NAN: (2, "bad labels", "not finite"),
    poison.EXIT: (2, "teacher raised", "SystemExit"),
}


def test_eighteen_poisonous_structures_among_two_hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    structures = clusters(200)
    elements = [number for number, (count, *_) in CULPRITS.items() for _ in range(count)]
    wanted = {}
    for i, number in enumerate(elements):
        place = 11 * i + 5
        structures[place] = with_element(structures[place], number)
        wanted[f"cluster-{place}"] = number
    source = write_extxyz(tmp_path / "poison.xyz", structures)
    settings = LabelSettings("ase:tests.labeler.poison.Poison", (str(source),), hessian="probes:1", batch_edges=60)
    run = RunSettings(workers=2, deadline_s=4.0, memory_bytes=400 << 20, progress=False)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        before = pids(client)
        elsewhere = replace(run, scheduler=cluster.scheduler_address)
        result = label(settings, tmp_path / "labels", run=elsewhere, say=lambda _: None)
        assert pids(client) == before  # no worker was lost, none restarted
    rows = [row for p in sorted((result.path / "quarantine").glob("*.json")) for row in json.loads(p.read_bytes())]
    assert Counter(row["group"] for row in rows) == Counter(list(wanted))
    for row in rows:
        _, reason, words = CULPRITS[wanted[row["group"]]]
        assert row["reason"] == reason, row
        assert words in row["text"], row
    assert result.manifest.counts.n_structures == 182


def pids(client: Client) -> set[int]:
    import os

    return set(client.run(os.getpid).values())
