"""Selection: expressions, their safety, samples that nest, duplicates."""

from __future__ import annotations

import itertools
import random
import time

import numpy as np
import pytest

from hdistill.data import sources
from hdistill.data.errors import InputError
from hdistill.data.sources import SourceReport, select as subset
from hdistill.data.structure import Structure


def structure(symbols: str = "H2O", x: float = 0.0, **info: object) -> Structure:
    numbers = {"H2O": [8, 1, 1], "CH4": [6, 1, 1, 1, 1], "NaCl": [11, 17], "HI": [1, 53]}[symbols]
    positions = np.arange(3.0 * len(numbers)).reshape(-1, 3) + x
    return Structure(np.array(numbers), positions, group=symbols, charge=int(x), info=info)


ALL = [structure("H2O"), structure("CH4"), structure("NaCl"), structure("HI")]


def groups(where: str, structures=ALL) -> list[str]:
    return [s.group for s in subset.select(structures, where)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("n_atoms <= 3", ["H2O", "NaCl", "HI"]),
        ("{'H','C','N','O'} >= elements and n_atoms <= 16", ["H2O", "CH4"]),
        ("elements <= {'H', 'O'}", ["H2O"]),
        ("'I' in elements", ["HI"]),
        ("elements & {'Na', 'I'} != {'Na'} and 'I' in elements", ["HI"]),
        ("not 'H' in elements", ["NaCl"]),
        ("formula == 'CH4' or group in ['HI', 'NaCl']", ["CH4", "NaCl", "HI"]),
        ("2 < n_atoms < 5", ["H2O"]),
        ("charge == 0 and spin == 1 and len(elements) == 2", ["H2O", "CH4", "NaCl", "HI"]),
        ("n_atoms % 2 == 0", ["NaCl", "HI"]),
        ("-n_atoms + 1 < -3", ["CH4"]),
        ("max(n_atoms, 4) == 4", ["H2O", "NaCl", "HI"]),
        ("True", ["H2O", "CH4", "NaCl", "HI"]),
    ],
)
def test_expressions(where, expected):
    assert groups(where) == expected


def test_keys_of_the_source():
    structures = [structure(x=1.0, gap=5.5, k=[1, 2]), structure(x=2.0, gap=0.5, k=[3, 4]), structure(x=3.0)]
    report = SourceReport()
    chosen = list(subset.select(structures, "gap >= 5 and k[0] == 1", report))
    assert [s.charge for s in chosen] == [1]
    assert (report.n_matching, report.n_not_matching) == (1, 2)
    assert report.lacking == {"gap": 1, "k": 1}
    assert "--where matched 1 of 3 structures." in report.lines()
    assert "1 structure had no 'gap' and did not match." in report.lines()


def crystal(a: float = 4.0, **arrays: object) -> Structure:
    """Caesium chloride: space group 221."""
    cell = a * np.eye(3)
    positions = np.array([(0, 0, 0), (0.5 * a, 0.5 * a, 0.5 * a)])
    return Structure(np.array([55, 17]), positions, cell, np.array([True] * 3), group=f"CsCl {a}", **arrays)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("n_elements == 2 and n_periodic == 3", ["CsCl 4.0", "CsCl 5.0"]),
        ("volume < 100", ["CsCl 4.0"]),
        ("density > 4", ["CsCl 4.0"]),  # 168.4 u in 64 A^3: 4.37 g/cm^3; in 125 A^3: 2.24
        ("4.36 < density < 4.38", ["CsCl 4.0"]),
        ("spacegroup == 221", ["CsCl 4.0", "CsCl 5.0"]),
        (
            "min_distance > 4",
            ["H2O", "CsCl 5.0"],
        ),  # half the diagonal: 3.46 and 4.33 A; the made-up water is spread out
        ("max_force <= 5.1", ["CsCl 4.0"]),
        ("has('forces') and not has('gap')", ["CsCl 4.0"]),
        ("has('gap')", ["H2O"]),
        ("n_periodic == 0 or volume > 100", ["CsCl 5.0"]),  # what has no volume does not match where it is named
    ],
)
def test_what_is_computed_of_a_structure(where: str, expected: list[str]) -> None:
    forces = np.array([(3.0, 4.0, 0.0), (0.0, 0.0, 0.0)])
    structures = [structure(gap=1.0), crystal(4.0, ref_forces=forces), crystal(5.0)]
    assert groups(where, structures) == expected


def test_what_a_structure_does_not_have_is_counted() -> None:
    report = SourceReport()
    list(subset.select([structure(), crystal()], "volume > 0", report))
    assert "1 structure had no 'volume' and did not match." in report.lines()


def test_a_name_that_no_structure_has():
    structures = [structure(band_gap=1.0), structure("CH4", band_gap=2.0)]
    with pytest.raises(InputError, match=r"no structure has 'n_atom'\. Did you mean 'n_atoms'\?"):
        groups("n_atom > 2", structures)
    with pytest.raises(
        InputError, match=r"'bandgap'\. Did you mean 'band_gap'\?.*charge, spin,.*spacegroup, band_gap\."
    ):
        groups("bandgap > 2 or n_atoms > 2", structures)


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("n_atoms <", r"--where `n_atoms <` is not an expression: invalid syntax"),
        ("", "1 to 1000 characters"),
        ("n_atoms = 3", "is not an expression"),
        ("n_atoms; group", "is not an expression"),
        ("(" * 400, "is not an expression"),
        ("n_atoms > 3 and " * 80 + "True", "1 to 1000 characters"),
        ("1" + "+1" * 300, "parts"),
        ("group.upper() == 'X'", "calls a method"),
        ("group.__class__ == 3", "uses Attribute"),
        ("().__class__.__bases__", "uses Attribute"),
        ("__import__('os').system('true')", "calls a method"),
        ("__import__('os')", "calls '__import__'"),
        ("eval('1')", "calls 'eval'"),
        ("open('/etc/passwd')", "calls 'open'"),
        ("lenn(elements) > 1", r"calls 'lenn'.*Did you mean 'len'\?"),
        ("max(*elements) == 'H'", "uses Starred"),
        ("9 ** 9 ** 9 ** 9 > 1", "uses Pow"),
        ("1 << 999999999 > 1", "uses LShift"),
        ("[x for x in elements] == []", "uses ListComp"),
        ("all(x for x in elements)", "uses GeneratorExp|calls 'all'"),
        ("(lambda: True)()", "calls a method|uses Lambda"),
        ("f'{group:1000000000}' == ''", "uses JoinedStr"),
        ("(x := 5) > 3", "uses NamedExpr"),
        ("b'a' == 1", "has the value b'a'"),
        ("... == 1", "has the value Ellipsis"),
    ],
)
def test_expressions_that_are_refused_before_any_structure_is_read(where, sentence):
    started = time.perf_counter()
    with pytest.raises(InputError, match=sentence):
        subset.select(iter([]), where)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("n_atoms", "gives 3 and not true or false"),
        ("elements", "not true or false"),
        ("n_atoms > 'x'", "fails for a structure of H2O"),
        ("n_atoms / 0 > 1", "division"),
        ("'H' * 1000000000 == ''", "for numbers"),
        ("[1] * 100000 * 100000 == []", "for numbers"),
        ("'%0999999999d' % 3 == ''", "for numbers"),
        ("[1][2] == 1", "index"),
        ("__builtins__ == 1", "no structure has '__builtins__'"),
        ("max == 1", "no structure has 'max'"),
        ("abs() == 1", "fails"),
        ("-" * 290 + "1 < 1", "--where"),
    ],
)
def test_expressions_that_fail_quickly(where, sentence):
    started = time.perf_counter()
    with pytest.raises(InputError, match=sentence):
        groups(where)
    assert time.perf_counter() - started < 0.5


def test_no_expression_keeps_all():
    assert list(subset.select(ALL, None)) == ALL


def test_select_is_lazy():
    endless = (structure(x=float(i)) for i in itertools.count())
    assert [s.charge for s in itertools.islice(subset.select(endless, "charge % 3 == 0"), 3)] == [0, 3, 6]


def test_unique():
    report = SourceReport()
    same = structure("CH4", name="another name, the same geometry")
    assert list(subset.unique([*ALL, same], report)) == ALL
    assert report.n_duplicates == 1
    assert "1 duplicate dropped." in report.lines()


def test_unique_keeps_the_first_of_each_and_all_of_them():
    numbers = random.Random(0).choices(range(700), k=2000)
    structures = [structure(x=float(number), place=place) for place, number in enumerate(numbers)]
    report = SourceReport()
    kept = list(subset.unique(structures, report))
    assert [s.info["place"] for s in kept] == [numbers.index(number) for number in dict.fromkeys(numbers)]
    assert report.n_duplicates == 2000 - len(set(numbers)) == 2000 - len(kept)


def test_samples_nest_and_do_not_depend_on_the_order():
    structures = list(sources.read("perovskites:40"))
    ids = {n: [s.id for s in subset.sample(structures, n, seed=3)] for n in (5, 20, 64, 1000)}
    assert ids[5] == ids[20][:5]
    assert len(ids[1000]) == 64
    assert [s.id for s in subset.sample(reversed(structures), 20, seed=3)] == ids[20]
    assert [s.id for s in subset.sample(structures, 20, seed=4)] != ids[20]
    keys = [subset.order_key(3, structure_id) for structure_id in ids[64]]
    assert keys == sorted(keys)
    assert all(0 <= key < 2**64 for key in keys)


def test_sample_without_a_limit_is_the_stream_itself():
    endless = (structure(x=float(i)) for i in itertools.count())
    assert next(subset.sample(endless, None, seed=0)).charge == 0


def test_sample_takes_duplicates_and_refuses_nothing():
    assert len(list(subset.sample([ALL[0], ALL[0]], 2, seed=0))) == 2
    with pytest.raises(InputError, match="--limit was 0"):
        subset.sample(ALL, 0, seed=0)


def test_the_order_is_fixed_for_ever():
    """Label sets that exist were planned in this order."""
    assert subset.order_key(0, "0" * 32) == 16997064141870425121


def test_sample_is_uniform():
    """Each of 200 ids is in a sample of 50 about as often as any other: chi-squared within four sigma of its mean."""
    ids = [f"{i:032x}" for i in range(200)]
    hits = dict.fromkeys(ids, 0)
    n_seeds = 400
    for seed in range(n_seeds):
        for chosen in sorted(ids, key=lambda i: subset.order_key(seed, i))[:50]:
            hits[chosen] += 1
    p = 0.25
    chi2 = sum((n - n_seeds * p) ** 2 for n in hits.values()) / (n_seeds * p * (1 - p))
    assert abs(chi2 - 200) < 4 * np.sqrt(2 * 200)
