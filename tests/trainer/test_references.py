"""Reference energies per element."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hdistill.data.errors import InputError
from hdistill.data.labelsets.label_set import open_label_set
from hdistill.trainer.inputs.references import EnergyStatistics, References, counts_of, fit_references, statistics_of
from tests.data.samples import random_samples, write_label_set


def statistics(counts: list[list[int]], energies: list[float]) -> EnergyStatistics:
    elements = tuple(range(1, len(counts[0]) + 1))
    n_atoms = np.array(counts).sum(axis=1)
    return EnergyStatistics(
        elements, np.array(counts) / n_atoms[:, None], np.array(energies) / n_atoms, len(energies), 1.0
    )


def test_energies_that_are_sums_over_elements_are_found() -> None:
    counts = [[4, 1, 0], [2, 0, 1], [0, 1, 2], [6, 2, 0], [2, 1, 1]]
    actual = fit_references(statistics(counts, [-16.0 * c[0] - 1030.0 * c[1] - 2040.0 * c[2] for c in counts]))
    assert actual.energies == pytest.approx((-16.0, -1030.0, -2040.0), rel=1e-10)


def test_one_composition_only() -> None:
    """ABX3: nothing tells the elements apart, the sum is right all the same."""
    actual = fit_references(statistics([[1, 1, 3], [8, 8, 24]], [-40.0, -320.0]))
    assert actual.of(np.array([1, 2, 3, 3, 3])) == pytest.approx(-40.0)
    assert np.isfinite(actual.energies).all()


def test_large_structures_count_no_more_than_small_ones() -> None:
    actual = fit_references(statistics([[1], [100]], [-1.0, -300.0]))
    assert actual.energies == pytest.approx((-2.0,))


def test_counts_and_unknown_elements() -> None:
    references = References((1, 8), (-1.0, -10.0))
    assert counts_of(np.array([8, 1, 1]), (1, 8)).tolist() == [2.0, 1.0]
    assert references.of(np.array([8, 1, 1], np.uint8)) == -12.0
    assert references.unknown(np.array([8, 53, 6])) == [6, 53]


def test_statistics_are_of_the_training_split(tmp_path: Path) -> None:
    samples = random_samples(sizes=(3, 4, 5, 2, 6, 1, 3))
    labels = open_label_set(write_label_set(tmp_path / "labels", samples))
    train = [s for s in samples if s.split == "train"]
    actual = statistics_of(labels, "teacher")
    assert actual.elements == tuple(sorted({int(z) for s in train for z in s.structure.numbers}))
    assert actual.n_structures == len(train)
    counts = np.stack([counts_of(s.structure.numbers, actual.elements) / s.structure.n_atoms for s in train])
    energies = np.array([s.labels.energy / s.structure.n_atoms for s in train])
    assert np.allclose(actual.fractions.T @ actual.fractions, counts.T @ counts)
    assert np.allclose(actual.fractions.T @ actual.energies, counts.T @ energies)
    assert actual.energies @ actual.energies == pytest.approx(energies @ energies)
    forces = np.concatenate([s.labels.forces for s in train])
    assert actual.force_rms == pytest.approx(np.sqrt((forces**2).mean()), rel=1e-6)


def test_many_structures_are_summarised_in_few_rows(tmp_path: Path) -> None:
    """Energies that are sums over elements, of large totals, over several shards: found to all digits, from a triangle."""
    rng = np.random.default_rng(0)
    samples = []
    for sample in random_samples("none", sizes=rng.integers(1, 9, 60).tolist()):
        energy = float(sum(-1e4 * int(z) - 3.7 for z in sample.structure.numbers))
        samples.append(replace(sample, labels=replace(sample.labels, energy=energy), split="train"))
    actual = statistics_of(open_label_set(write_label_set(tmp_path / "labels", samples, per_shard=25)), "teacher")
    assert len(actual.energies) <= len(actual.elements) + 1 < 60
    assert actual.n_structures == 60
    assert fit_references(actual).energies == pytest.approx([-1e4 * z - 3.7 for z in actual.elements], rel=1e-11)


def test_missing_reference_labels_are_counted(tmp_path: Path) -> None:
    samples = [replace(s, split="train") for s in random_samples(sizes=(3, 4, 5, 2))]  # two have none of their own
    labels = open_label_set(write_label_set(tmp_path / "labels", samples))
    with pytest.raises(InputError, match=r"2 of the 4 training structures.*without energies or forces"):
        statistics_of(labels, "reference")
    own = [s for s in samples if s.structure.ref_energy is not None]
    labels = open_label_set(write_label_set(tmp_path / "own", own))
    squares = sum(
        (s.structure.ref_energy / s.structure.n_atoms) ** 2 for s in own if s.structure.ref_energy is not None
    )
    assert np.square(statistics_of(labels, "reference").energies).sum() == pytest.approx(squares)


def test_an_empty_training_split_is_refused(tmp_path: Path) -> None:
    samples = [replace(s, split="test") for s in random_samples(sizes=(3, 4))]
    for name, some in (("test only", samples), ("nothing", [])):
        labels = open_label_set(write_label_set(tmp_path / name, some))
        with pytest.raises(InputError, match="no structure in its train split"):
            statistics_of(labels, "teacher")
