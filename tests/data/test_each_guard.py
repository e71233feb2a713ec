"""Guards of readers that a changed line had left untested: each is called with what it is there for."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from hdistill.data.convert.exporting import export
from hdistill.data.convert.hessians import arrays as npz, fchk
from hdistill.data.convert.hessians.contract import readers
from hdistill.data.convert.importing import ImportSettings, import_file
from hdistill.data.errors import InputError, LabelSetError, RemoteError
from hdistill.data.sharing.cache import ShardCache
from hdistill.data.sharing.store import Store
from hdistill.data.sources.hdf5 import dataset
from hdistill.data.sources.readers.ase_databases import _record as record_of_row
from hdistill.data.sources.readers.extxyz import frames, record_of_frame
from hdistill.data.sources.record import Unusable
from hdistill.data.sources.select import MAX_NODES, parse_where
from hdistill.data.sources.vasp_xml import numbers_of
from hdistill.data.support.digest_set import DigestSet


def frame(tmp_path: Path, properties: str, rows: str = "Ar 0 0 0\n") -> Any:
    file = tmp_path / "one.xyz"
    file.write_text(f"1\nProperties={properties}\n{rows}")
    return next(frames(file))


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ("pos:R:3", "neither species nor Z"),
        ("species:S:1", "has no pos"),
        ("species:S:1:pos:R:3:rest", "not name:kind:columns"),
        ("species:S:1:pos:Q:3", "not name:kind:columns"),
        ("species:S:1:pos:R:x", "not name:kind:columns"),
        ("species:S:1:pos:R:3:pos:R:3", "not name:kind:columns"),
    ],
)
def test_columns_that_make_no_structure(tmp_path: Path, properties: str, words: str) -> None:
    with pytest.raises(Unusable, match=words):
        record_of_frame(frame(tmp_path, properties))


def test_atoms_that_are_missing_or_too_short(tmp_path: Path) -> None:
    file = tmp_path / "short.xyz"
    file.write_text("2\nProperties=species:S:1:pos:R:3\nAr 0 0 0\n")
    with pytest.raises(Unusable, match="fewer than the 2 atoms"):
        record_of_frame(next(frames(file)))
    with pytest.raises(Unusable, match="has 3 columns, not 4"):
        record_of_frame(frame(tmp_path, "species:S:1:pos:R:3", "Ar 0 0\n"))


def test_rows_of_a_database_whose_data_are_no_names() -> None:
    with pytest.raises(Unusable, match="list, not names with values"):
        record_of_row(SimpleNamespace(data=[1, 2]), None)  # type: ignore[arg-type]


def test_a_format_whose_package_is_missing(tmp_path: Path) -> None:
    """What a reader raises where its package is not there becomes a sentence that names the package."""
    files = importlib.import_module("hdistill.data.sources.files")  # the package has a function of that name

    def broken() -> Any:
        raise ImportError("No module named 'netCDF4'")
        yield

    with pytest.raises(InputError, match=r"needs a package: .*netCDF4"):
        list(files._with_place(tmp_path / "x.nc", broken()))


def test_expressions_of_too_many_parts_or_of_odd_values() -> None:
    text = "+".join(["1"] * MAX_NODES) + " > 0"
    with pytest.raises(InputError, match=f"{MAX_NODES} are allowed|characters"):
        parse_where(text)
    nested = "[" + ",".join(["[[[]]]"] * (MAX_NODES // 3)) + "]"
    with pytest.raises(InputError, match=f"{MAX_NODES} are allowed|characters"):
        parse_where(nested)
    for odd in ("charge == 1j", "formula == b'x'", "formula == ..."):
        with pytest.raises(InputError, match="use numbers, strings"):
            parse_where(odd)


def test_a_name_in_the_cache_is_a_sha256(tmp_path: Path) -> None:
    for name in ("../../x", "0" * 63, "g" * 64, "0" * 64 + "/x"):
        with pytest.raises(LabelSetError, match="in the place of a sha256"):
            ShardCache(tmp_path).path(name)


def test_a_store_that_keeps_less_than_was_sent(tmp_path: Path) -> None:
    class Forgetful:
        def makedirs(self, *_: Any, **__: Any) -> None: ...

        def put_file(self, *_: Any, **__: Any) -> None: ...

        def invalidate_cache(self, *_: Any, **__: Any) -> None: ...

        def info(self, *_: Any, **__: Any) -> dict[str, Any]:
            return {"size": 1, "type": "file"}

        def size(self, *_: Any, **__: Any) -> int:
            return 1

    (tmp_path / "shard").write_bytes(b"123")
    with pytest.raises(RemoteError, match="has 1 bytes, 3 were sent"):
        Store(Forgetful(), "root", "s3://bucket", "s3").put("shard", tmp_path / "shard")


def test_exports_to_what_is_no_file_and_of_no_split(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        export(tmp_path / "labels", "extxyz", tmp_path)
    with pytest.raises(InputError, match=r"--split was .trian..*train"):
        export(tmp_path / "labels", "extxyz", tmp_path / "x.xyz", "trian")


@pytest.mark.parametrize("hessian", ["none", "rows:first:2"])
def test_imports_have_products(tmp_path: Path, hessian: str) -> None:
    with pytest.raises(InputError, match=r"--hessian (was|takes)|not understood|probes:K"):
        import_file(tmp_path / "x.h5", tmp_path / "out", ImportSettings(hessian=hessian))


CHECKPOINT = """title
Freq RB3LYP 6-31G*
Number of atoms                            I                2
Charge                                     I                0
Multiplicity                               I                1
Atomic numbers                             I   N=           2
           1           1
Current cartesian coordinates              R   N=           6
  0.00000000E+00  0.00000000E+00  0.00000000E+00  0.00000000E+00  0.00000000E+00
  {z}
Total Energy                               R     -1.000000000000000E+00
Cartesian Gradient                         R   N=           6
  0.00000000E+00  0.00000000E+00  0.00000000E+00  0.00000000E+00  0.00000000E+00
  0.00000000E+00
Cartesian Force Constants                  R   N=          {n}
{constants}
"""


def checkpoint(tmp_path: Path, z: str = "1.40000000E+00", n: int = 21, given: int = 21) -> Path:
    words = ["1.00000000E-01"] * given
    lines = "\n".join("  " + "  ".join(words[i : i + 5]) for i in range(0, given, 5))
    file = tmp_path / "x.fchk"
    file.write_text(CHECKPOINT.format(z=z, n=n, constants=lines))
    return file


def test_a_checkpoint_with_other_numbers_than_it_says(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="20 force constants for 2 atoms; 21 were wanted"):
        list(fchk.read(checkpoint(tmp_path, n=20, given=20)))
    with pytest.raises(InputError, match="19 numbers, 21 were wanted"):
        list(fchk.read(checkpoint(tmp_path, given=19)))
    assert len(list(fchk.read(checkpoint(tmp_path)))) == 1


def test_atoms_of_vasprun_that_are_no_elements(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="atoms called Qq, which are not elements"):
        numbers_of(tmp_path / "vasprun.xml", ["Si", "Qq"])
    assert numbers_of(tmp_path, ["Si", "O"]).tolist() == [14, 8]


def test_datasets_that_lie_elsewhere_or_are_none(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("group")
        file.create_dataset("out", (2,), "<f8", external=[(str(tmp_path / "raw"), 0, 16)])
        file["plain"] = [1.0, 2.0]
        for name in ("group", "out", "none"):
            with pytest.raises(ValueError, match="is not a plain dataset"):
                dataset(file, name)
        assert dataset(file, "plain").shape == (2,)


def test_a_hessian_that_would_not_fit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers()  # the other readers take their bound from there when they are imported
    monkeypatch.setattr(npz, "MAX_BYTES", 8 * 9 * 4)  # of two atoms
    arrays = {"atomic_numbers": np.ones(3, int), "positions": np.zeros((3, 3)), "hessian": np.zeros((9, 9))}
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, value in arrays.items():
            file[name] = value
    with pytest.raises(InputError, match="a Hessian of 3 atoms is larger"):
        import_file(tmp_path / "x.h5", tmp_path / "out", ImportSettings(length="angstrom"))


def test_hashes_have_one_length() -> None:
    with pytest.raises(ValueError, match="a key of 15 bytes"):
        DigestSet().add(b"x" * 15)


def test_json_that_is_nested_too_deeply_ends_no_process_whose_limit_was_raised() -> None:
    """Packages raise the limit of recursion for the whole process; then the parser itself would run out of stack."""
    code = (
        "import sys; sys.setrecursionlimit(10**6)\n"
        "from hdistill.data.errors import LabelSetError\n"
        "from hdistill.data.support.strict_json import loads, read_info, read_object\n"
        "for text in ('[' * 10**6, '{\"a\":' * 10**6, '[' * 10**5 + ']' * 10**5):\n"
        "    for read in (loads, read_info, lambda data: read_object(data, 'x')):\n"
        "        try: read(text.encode())\n"
        "        except (LabelSetError, ValueError): pass\n"
        "        else: raise SystemExit(5)\n"
        "assert loads('[\"' + '[' * 10**4 + '\"]') == ['[' * 10**4]\n"
        "assert loads('[\"\\\\\\\"' + '{' * 10**4 + '\", 1]')[1] == 1\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
