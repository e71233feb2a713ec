"""Every structure that was planned is labelled or in quarantine: when a set is written, merged and cut, and when it is verified."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdistill.data.convert.cut import cut
from hdistill.data.convert.merge import merge
from hdistill.data.errors import LabelSetError
from hdistill.data.format.records import QuarantineRow
from hdistill.data.format.schema import MAX_QUARANTINE_ROWS
from hdistill.data.format.shard import to_arrays
from hdistill.data.labelsets.balance import NONE, id_sum, minus, plus
from hdistill.data.labelsets.facts import facts_of
from hdistill.data.labelsets.label_set import open_label_set, verify
from hdistill.data.labelsets.writer import Block, write
from tests.data.made import facts_of_samples, make_label_set, samples_of


def silent(_: str) -> None: ...


def row(id: str) -> dict[str, Any]:
    return {"id": id, "reason": "bad labels", "text": "", "attempts": 1}


def test_sums_of_ids() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 256, (1000, 16)).astype(np.uint8)
    ids[0], ids[1] = 255, 0
    texts = [key.tobytes().hex() for key in ids]
    wanted = sum(int(text, 16) for text in texts) % 2**128
    assert id_sum(ids) == id_sum(texts) == id_sum(reversed(texts))
    assert id_sum(ids) == type(NONE)(n=1000, sum=f"{wanted:032x}")
    assert plus(id_sum(texts[:300]), id_sum(texts[300:])) == id_sum(ids)
    assert minus(id_sum(ids), id_sum(texts[:300])) == id_sum(texts[300:])
    assert id_sum([]) == id_sum([""]) == NONE == plus()  # a row without an id counts for nothing


def test_a_set_that_lacks_a_planned_structure_is_not_published(tmp_path: Path) -> None:
    samples = samples_of("probes:2")
    ids = [sample.structure.id for sample in samples]
    blocks = [Block(to_arrays(samples[:4], "compact"))]
    facts = facts_of_samples("probes:2")
    quarantine = (QuarantineRow(**row(ids[4])),)
    for planned, rows, message in (
        (ids, (), "5 structures were planned, but 4 are labelled and 0 in quarantine, 4 together"),
        (ids[:4], quarantine, "4 structures were planned, but 4 are labelled and 1 in quarantine"),
        (ids[1:], (), "not the same ones"),
    ):
        with pytest.raises(LabelSetError, match=message):
            write(tmp_path, blocks, replace(facts, planned=id_sum(planned), quarantine=rows))
        assert not (tmp_path / "manifest.json").exists()
    write(tmp_path, blocks, replace(facts, planned=id_sum(ids), quarantine=quarantine))
    balance = verify(tmp_path).manifest.balance
    assert balance is not None
    assert (balance.planned, balance.quarantined) == (id_sum(ids), id_sum(ids[4:]))


def test_merge_and_cut_balance(tmp_path: Path) -> None:
    samples = samples_of("probes:2", sizes=[3, 4, 5, 6, 7, 8])
    ids = [sample.structure.id for sample in samples]
    lost = "cd" * 16
    a = make_label_set(tmp_path / "a", samples[:4], quarantine=[row(ids[5]), row(lost)])
    b = make_label_set(tmp_path / "b", samples[3:], quarantine=[row(ids[0])])
    both = verify(merge([a, b], tmp_path / "ab", say=silent) and tmp_path / "ab").manifest
    assert both.balance is not None
    assert both.balance.planned == id_sum([*ids, lost])
    assert [r.id for r in both.quarantine] == [lost]
    cut(tmp_path / "ab", tmp_path / "few", where="n_atoms > 5", say=silent)
    few = verify(tmp_path / "few").manifest
    assert few.balance is not None
    assert (few.balance.planned.n, few.balance.quarantined) == (3, NONE)


def test_a_quarantine_that_is_not_listed_whole_still_balances(tmp_path: Path) -> None:
    samples = samples_of("probes:2")
    rows = [row(f"{i:032x}") for i in range(1, MAX_QUARANTINE_ROWS + 6)]
    make_label_set(tmp_path / "a", samples[:2], quarantine=rows)
    make_label_set(tmp_path / "b", samples[2:])
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "ab", say=silent)
    for name, n in (("a", 2), ("ab", 5)):
        manifest = verify(tmp_path / name).manifest
        assert manifest.counts.n_quarantined == len(rows)
        assert len(manifest.quarantine) == MAX_QUARANTINE_ROWS
        assert manifest.balance is not None
        assert manifest.balance.planned.n == n + len(rows)
    facts = facts_of(manifest)  # written again, as a later pass does
    write(tmp_path / "ab", [Block(to_arrays(samples, "compact"))], facts)
    assert verify(tmp_path / "ab").manifest.balance == manifest.balance


@pytest.mark.parametrize("kind", ["planned", "quarantined", "a row", "both"])
def test_verify_finds_what_does_not_balance(tmp_path: Path, kind: str) -> None:
    samples = samples_of("probes:2")
    ids = [sample.structure.id for sample in samples]
    make_label_set(tmp_path, samples[:4], quarantine=[row(ids[4])])
    verify(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    changes: dict[str, Callable[[], Any]] = {
        "planned": lambda: manifest["balance"]["planned"].update(n=6),
        "quarantined": lambda: manifest["balance"]["quarantined"].update(sum="0" * 32),
        "a row": lambda: manifest["quarantine"][0].update(id="cd" * 16),
        "both": lambda: (manifest["quarantine"][0].update(id=ids[0]), manifest.pop("balance")),
    }
    changes[kind]()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    open_label_set(tmp_path)
    with pytest.raises(LabelSetError, match=r"planned|other structures in quarantine|in quarantine, and labels of it"):
        verify(tmp_path)
