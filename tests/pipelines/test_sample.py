"""hdistill sample as a user types it, and docs/sampling.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import read, write
from click.testing import CliRunner

import hdistill
from hdistill.pipelines.cli.main import main
from tests.labeler.conftest import clusters

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sampling.md"


def run(*words: object) -> Any:
    return CliRunner().invoke(main, ["sample", *map(str, words)])


@pytest.mark.long
def test_the_page_says_what_happens() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "docs/sampling.md", "exec"), names)
    assert names["made"].n == 24
    assert {atoms.info["temperature"] for atoms in names["hot"]} == {300.0, 600.0}
    assert "by the recipe crystal" in repr(names["made"])


def test_a_file_of_structures_that_the_labeler_takes(tmp_path: Path) -> None:
    write(tmp_path / "argon.cif", bulk("Ar", "fcc", a=5.3, cubic=True))
    done = run(tmp_path / "argon.cif", "-o", tmp_path / "new.xyz", "--n", 12, "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    frames = read(tmp_path / "new.xyz", ":")
    assert result["n"] == len(frames) == 12
    assert sum(result["by_move"].values()) == 12
    assert "Left out, since there is no --driver" in done.stderr
    again = run(tmp_path / "argon.cif", "-o", tmp_path / "again.xyz", "--n", 12)
    assert (tmp_path / "again.xyz").read_bytes() == (tmp_path / "new.xyz").read_bytes()
    assert again.exit_code == 0
    labels = hdistill.label(
        tmp_path / "new.xyz", tmp_path / "labels", teacher="lennard-jones", workers=1, say=lambda _: None
    )
    assert (labels.n_structures, labels.n_quarantined) == (12, 0)


def test_a_student_drives_and_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    quiet: dict[str, Any] = {"say": lambda _: None}
    labels = hdistill.label(clusters(24), tmp_path / "labels", teacher="lennard-jones", workers=1, **quiet)
    student = hdistill.fit(labels, tmp_path / "run", student="painn-small", steps=60, warmup=5, progress=False)
    start = Atoms("Ar4", [(0, 0, 0), (3.7, 0, 0), (0, 3.7, 0), (0, 0, 3.7)])
    write(tmp_path / "start.xyz", start)
    (tmp_path / "hot.toml").write_text(
        '[[moves]]\nmove = "md"\nn = 6\nps = 0.2\n[[moves]]\nmove = "relax"\nfmax = 0.0001\nevery = 1\n'
    )
    files = [tmp_path / f"{k}.xyz" for k in range(2)]
    for file in files:
        done = run(
            *(tmp_path / "start.xyz", "-o", file, "--recipe", tmp_path / "hot.toml"),
            *("--driver", f"student:{student.run}", "--temperature", "20,40"),
        )
        assert done.exit_code == 0, done.stderr
    assert files[0].read_bytes() == files[1].read_bytes()
    frames = read(files[0], ":")
    assert {frame.info["temperature"] for frame in frames if frame.info["move"] == "md"} == {20.0, 40.0}
    assert any(frame.info["move"] == "relax" for frame in frames)


def test_diverse_ones_are_kept() -> None:
    made = hdistill.sample([molecule("CH3CH2OH")], n=60, diverse=10, driver=None)
    assert made.n == len(made.structures) == 10


def test_a_pressure_moves_the_cell() -> None:
    copper = bulk("Cu", cubic=True)
    table = {"moves": [{"move": "md", "n": 20, "ps": 0.5, "replicas": 1}]}
    from hdistill.data.sampling.recipe import recipe_of
    from hdistill.data.sampling.sample import sample
    from hdistill.pipelines.api.sampling import read_starts
    from hdistill.pipelines.drivers import by_calculator

    starts = read_starts(copper, lambda _: None)
    volumes = [
        np.mean(
            [
                np.linalg.det(s.cell)
                for s in sample(starts, recipe_of(table, "npt"), None, [300], [p], by_calculator(EMT())).structures
            ]
        )
        for p in (0.0, 20.0)
    ]
    assert volumes[1] < 0.95 * volumes[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nope.cif", "-o", "x.xyz"), "no file and no subset"),
        (("start.xyz", "-o", "x.cif"), "ends in .xyz"),
        (("start.xyz", "-o", "x.xyz", "--recipe", "crystl"), "Did you mean 'crystal'"),
        (("start.xyz", "-o", "x.xyz", "--temperature", "hot"), "numbers with commas"),
        (("start.xyz", "-o", "x.xyz", "--temperature", "0"), "must be more than 0"),
        (("start.xyz", "-o", "x.xyz", "--n", "0"), "must be 1 or more"),
        (("start.xyz", "-o", "x.xyz", "--driver", "7net-O"), "Did you mean '7net-0'"),
        (("start.xyz", "-o", "x.xyz", "--recipe", "only_md.toml"), "made no structure"),
    ],
)
def test_wrong_input_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write("start.xyz", molecule("H2O"))
    Path("only_md.toml").write_text('[[moves]]\nmove = "md"\n')
    done = run(*words)
    assert done.exit_code == 1
    assert message in done.stderr.splitlines()[-1]
    assert not Path("x.xyz").exists()
