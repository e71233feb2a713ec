"""Poison among many structures: every culprit is named with the right reason, every innocent is labelled, no worker is lost."""

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

CULPRITS = {  # element: reason, words
    poison.SEGFAULT: ("teacher crashed", "SIGSEGV"),
    poison.HANG: ("teacher hung", "no answer within"),
    poison.MEMORY: ("out of memory", "does not fit into memory"),
    poison.NAN: ("bad labels", "not finite"),
    poison.EXIT: ("teacher raised", "SystemExit"),
}


@pytest.mark.parametrize(
    ("n", "crashes", "others"), [(70, 2, 1), pytest.param(200, 10, 2, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_poison_among_innocents(
    n: int, crashes: int, others: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    structures = clusters(n)
    elements = [number for number in CULPRITS for _ in range(crashes if number == poison.SEGFAULT else others)]
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
        reason, words = CULPRITS[wanted[row["group"]]]
        assert row["reason"] == reason, row
        assert words in row["text"], row
    assert result.manifest.counts.n_structures == n - len(elements)


def pids(client: Client) -> set[int]:
    import os

    return set(client.run(os.getpid).values())
