"""Splits: by group, by hash, stable, never empty where that can be."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from hdistill.data import sources
from hdistill.data.errors import InputError
from hdistill.data.labelsets import split

GROUPS = [f"molecule {i}" for i in range(2000)]


def ids_of(groups) -> list[str]:
    return [f"{i:032x}" for i in range(len(groups))]


def test_fractions_hold_on_average():
    counts = Counter(split.split_of(group, seed=0) for group in GROUPS)
    for name, fraction in zip(split.SPLITS, split.DEFAULT, strict=True):
        sigma = (len(GROUPS) * fraction * (1 - fraction)) ** 0.5
        assert abs(counts[name] - len(GROUPS) * fraction) < 4 * sigma


def test_a_group_is_in_one_split_and_stays_there_when_the_set_grows():
    groups = [group for group in GROUPS[:50] for _ in range(4)]
    small = split.assign(groups, ids_of(groups), seed=1)
    assert len(set(zip(groups, small.splits, strict=True))) == 50
    assert not small.warnings
    grown = groups + GROUPS[50:]
    assert split.assign(grown, ids_of(grown), seed=1).splits[:200] == small.splits
    assert all(split.split_of(group, 1) == name for group, name in zip(groups, small.splits, strict=True))


def test_order_does_not_matter_and_the_seed_does():
    table = dict(zip(GROUPS[:30], split.assign(GROUPS[:30], ids_of(GROUPS[:30]), seed=2).splits, strict=True))
    backwards = GROUPS[:30][::-1]
    assert dict(zip(backwards, split.assign(backwards, ids_of(backwards), seed=2).splits, strict=True)) == table
    assert dict(zip(GROUPS[:30], split.assign(GROUPS[:30], ids_of(GROUPS[:30]), seed=3).splits, strict=True)) != table


@pytest.mark.parametrize("n_groups", range(3, 12))
@pytest.mark.parametrize("seed", range(20))
def test_no_split_is_empty_from_three_groups_on(n_groups, seed):
    assigned = split.assign(GROUPS[:n_groups], ids_of(range(n_groups)), seed)
    assert set(assigned.splits) == set(split.SPLITS)
    assert assigned.unit == "group"
    by_hash = {split.split_of(group, seed) for group in GROUPS[:n_groups]}
    assert bool(assigned.warnings) == (by_hash != set(split.SPLITS))


def test_filling_a_split_moves_as_few_groups_as_it_must():
    moved = 0
    for seed in range(200):
        groups = GROUPS[seed : seed + 6]
        assigned = split.assign(groups, ids_of(groups), seed)
        changed = sum(split.split_of(g, seed) != s for g, s in zip(groups, assigned.splits, strict=True))
        empty = len(set(split.SPLITS) - {split.split_of(g, seed) for g in groups})
        assert changed == empty
        moved += changed
    assert moved > 0


@pytest.mark.parametrize("groups", [["water"] * 100, ["water"] * 50 + ["ice"] * 50])
def test_one_or_two_groups_are_split_by_structure_and_that_is_told(groups):
    assigned = split.assign(groups, ids_of(groups), seed=0)
    assert assigned.unit == "structure"
    assert set(assigned.splits) == set(split.SPLITS)
    assert "same molecules or materials" in assigned.warnings[0]


def test_one_structure_trains():
    assigned = split.assign(["water"], ids_of(range(1)), seed=0)
    assert len(assigned.splits) == 1
    assert sum("split is empty" in line for line in assigned.warnings) == 2


def test_fractions_of_zero_are_kept():
    for fractions in [(1.0, 0.0, 0.0), (0.9, 0.0, 0.1), (0.7, 0.3, 0.0)]:
        assigned = split.assign(GROUPS, ids_of(GROUPS), seed=0, fractions=fractions)
        wanted = {name for name, fraction in zip(split.SPLITS, fractions, strict=True) if fraction}
        assert set(assigned.splits) == wanted
        assert not assigned.warnings
    alone = split.assign(["water"] * 5, ids_of(range(5)), seed=0, fractions=(1.0, 0.0, 0.0))
    assert alone.unit == "group"
    assert set(alone.splits) == {"train"}


def test_parse_fractions():
    assert split.parse_fractions("0.8,0.1,0.1") == (0.8, 0.1, 0.1)
    assert split.parse_fractions("1, 0, 0") == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "text", ["", "0.8", "0.8,0.2", "a,b,c", "0.5,0.5,0.5", "0,0.5,0.5", "1.2,-0.1,-0.1", "nan,0,1"]
)
def test_fractions_that_are_refused(text):
    with pytest.raises(InputError, match="--splits was"):
        split.parse_fractions(text)


def test_the_demo_subset_has_a_usable_test_set():
    """Every chemistry of the built-in subset is trained on; 10 % to 20 % of the structures are held out for each use."""
    structures = list(sources.read("perovskites"))
    assigned = split.assign([s.group for s in structures], [s.id for s in structures], seed=0)
    counts = assigned.counts()
    assert counts["train"] > 400
    assert min(counts["val"], counts["test"]) > 40
    rows = zip(structures, assigned.splits, strict=True)
    chemistries = {(s.info["chemistry"], name) for s, name in rows}
    assert len([pair for pair in chemistries if pair[1] == "train"]) == 8
    assert len([pair for pair in chemistries if pair[1] == "test"]) >= 6


def test_the_split_is_fixed_for_ever():
    """Label sets that exist are merged by it."""
    assert [split.split_of(f"molecule {i}", 0) for i in range(6)] == [
        *("train", "train", "val", "test", "train", "train")
    ]


def test_a_set_seen_in_pieces_is_split_as_a_whole():
    rng = random.Random(5)
    for trial in range(40):
        groups = rng.choices(GROUPS[: rng.choice([1, 2, 3, 5, 40])], k=rng.choice([3, 8, 60]))
        ids = [f"{rng.getrandbits(128):032x}" for _ in groups]
        of_groups = np.array([split.position(group, trial) for group in groups])
        of_structures = np.array([split.position(i, trial) for i in ids])
        splitter = split.Splitter(split.DEFAULT)
        for start in range(0, len(groups), 7):
            part = slice(start, start + 7)
            splitter.add(map(split.group_key, groups[part]), of_groups[part], of_structures[part])
        decision = splitter.decide()
        whole = split.assign(groups, ids, trial)
        assert tuple(split.SPLITS[i] for i in decision.splits(of_groups, of_structures)) == whole.splits
        assert (decision.unit, decision.warnings) == (whole.unit, whole.warnings)
        assert decision.n_groups == len(set(groups))


@pytest.mark.parametrize("fractions", [(0.98, 0.01, 0.01), (0.01, 0.01, 0.98), (0.9, 0.0, 0.1)])
def test_an_empty_split_gets_the_nearest_group_of_all(fractions):
    """Against a search through all groups, which a Splitter does not keep."""
    moved = 0
    for seed in range(150):
        groups = GROUPS[seed : seed + 3 + seed % 9]
        table = {group: split.split_of(group, seed, fractions) for group in groups}
        for index, (name, fraction) in enumerate(zip(split.SPLITS, fractions, strict=True)):
            start, stop = sum(fractions[:index]), sum(fractions[: index + 1])
            counts = Counter(table.values())
            movable = [group for group in groups if counts[table[group]] > 1]
            if fraction and not counts[name] and movable:
                at = {group: split.position(group, seed) for group in movable}
                table[min(movable, key=lambda group: max(start - at[group], at[group] - stop, 0))] = name
                moved += 1
        assigned = split.assign(groups, ids_of(groups), seed, fractions)
        assert assigned.splits == tuple(table[group] for group in groups)
    assert moved > 50
