"""Published energies, forces and full Hessians as a label set: rows, probes or all of each Hessian, checked on the way in.

    extxyz     `hessian` in the comment (9 N^2 numbers) or as 9N columns of the atoms; charge, spin, group, energy, forces as usual
    hdf5       groups at any depth, each one structure or a stack of structures of the same atoms
    npz        arrays of one structure, or of a stack

In HDF5 and npz: atomic_numbers (N,) or (n,N), positions (N,3) or (n,N,3), energy, forces or gradient, hessian (..,3N,3N) or
(..,N,3,N,3), and charge and spin if there are; other names that are known are in NAMES. HORM (Cui et al., arXiv 2505.12447) and
others publish pickled objects in LMDB: they run code when they are opened, so they are converted by who made or trusts them.

Units are the caller's statement, or the file's in an attribute `units`; never guessed. Of each Hessian are checked: shape, finite
numbers, symmetry, that a translation changes no force, and the sign: one with a negative trace is -d2E/dR2 or no Hessian.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, LabelSetError
from ..format import codec as codecs
from ..format.manifest import (
    HessianSettings,
    History,
    InputFile,
    LicenseSettings,
    Manifest,
    Preflight,
    QuarantineRow,
    SplitSettings,
    Subset,
    TeacherRecord,
)
from ..format.shard import Sample, codec_errors, to_arrays
from ..labelsets.provenance import digest_of
from ..labelsets.split import Unit, assign, parse_fractions
from ..labelsets.writer import Block, Facts, require_free, sweep, write
from ..probes import HessianSpec, draw, parse_spec
from ..publication import licences
from ..sources import Keys, SourceReport
from ..sources.ase_files import parse_xyz, xyz_frames
from ..sources.formula import hill_formula
from ..sources.from_atoms import Unusable, structure_of
from ..sources.units import LENGTHS, parse_units
from ..structure import HessianProducts, Labels, Structure
from ..support.publish import sha256_of
from ..support.typed import as_json

NAMES = {
    "numbers": ("atomic_numbers", "numbers", "z", "Z", "species", "nuclear_charges"),
    "positions": ("positions", "coordinates", "conformations", "pos", "R", "geometry"),
    "energy": ("energy", "energies", "E", "dft_total_energy", "total_energy"),
    "forces": ("forces", "force", "F"),
    "gradient": ("gradient", "gradients", "dft_total_gradient"),
    "hessian": ("hessian", "hessians", "H", "dft_total_hessian"),
    "charge": ("charge", "total_charge"),
    "spin": ("spin", "multiplicity"),
}
MAX_DEPTH = 6
MAX_BYTES = 1 << 31  # of one structure's Hessian, or of one array of an npz file
MIN_DISTANCE = 0.4  # A
MAX_ASYMMETRY, MAX_DRIFT = 0.01, 0.01  # of the Hessian's largest element, above FLOOR
FLOOR = 0.05  # eV/A^2: what grids of integration leave
AT_ONCE = 128
Say = Callable[[str], None]


@dataclass(frozen=True)
class ImportSettings:
    """What is stated of a file and what is made of it.

    units: of energies over lengths, as in hartree/bohr, for energies, forces and Hessians; None: the file says so.
    length: of positions in HDF5 and npz, A, bohr or nm. negate: the file's Hessians have the sign of dF/dR.
    """

    hessian: str = "probes:4"
    units: str | None = None
    length: str | None = None
    negate: bool = False
    codec: codecs.Codec = "compact"
    seed: int = 0
    splits: str = "0.8,0.1,0.1"
    level_of_theory: str = ""
    licence: str = "unknown"
    citation: str = ""
    group_key: str | None = None


@dataclass(frozen=True, eq=False)
class Raw:
    """One structure as the file has it, positions in A already; the labels in the file's units."""

    structure: Structure
    place: str
    energy: float | None
    forces: NDArray[np.float64] | None
    hessian: NDArray[np.float64] | None
    units: str | None = None  # that the file states


@dataclass
class Survey:
    """What a first reading found: the good structures in order, the others with a reason."""

    ids: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    elements: set[int] = field(default_factory=set)
    quarantine: list[QuarantineRow] = field(default_factory=list)
    n_read: int = 0
    n_duplicates: int = 0
    n_negative: int = 0  # traces
    asymmetry: float = 0.0  # largest, relative
    drift: float = 0.0
    stiffest: list[float] = field(default_factory=list)  # largest diagonal elements, eV/A^2


def import_file(file: Path, out: Path, settings: ImportSettings, say: Say = print) -> Manifest:
    """Write the structures of a file with their Hessians as a label set into `out`; returns its manifest.

    Structures that fail a check are in its quarantine. The file is read twice. Raises InputError: no such file, an unknown
    layout, units that nobody states, a sign that is wrong for most, nothing that is good; LabelSetError for an `out` that is taken.
    """
    spec = parse_spec(settings.hessian)
    fractions = parse_fractions(settings.splits)
    if spec.kind == "none" or spec.first:
        raise InputError(f"--hessian was {spec}; an import takes probes:K, rows:K or full.")
    if settings.length is not None and settings.length.lower() not in LENGTHS:
        raise InputError(f"--length was '{settings.length}'; it is A, bohr or nm.")
    if not file.is_file():
        raise InputError(f"There is no file {file}.")
    require_free(out)
    licence = settings.licence if settings.licence == licences.UNKNOWN else licences.require_known(settings.licence)
    survey = _survey(file, settings)
    _require_sane(file, survey, say)
    assignment = assign(survey.groups, survey.ids, settings.seed, fractions)
    for line in assignment.warnings:
        say(line)
    splits = dict(zip(survey.ids, assignment.splits, strict=True))
    facts = _facts(file, replace(settings, licence=licence), survey, spec, assignment.unit)
    manifest = write(out, _blocks(file, settings, spec, splits), facts)
    sweep(out, manifest)
    return manifest


def _survey(file: Path, settings: ImportSettings) -> Survey:
    survey = Survey()
    seen: set[str] = set()
    for raw in _labelled(file, settings, survey):
        matrix = raw.hessian
        problem = _problem(raw)
        if raw.structure.id in seen:
            survey.n_duplicates += 1
            continue
        if matrix is not None and problem is None and np.trace(matrix) < 0:
            survey.n_negative += 1
            problem = (
                f"the trace of its Hessian is {np.trace(matrix):.3g} eV/A^2, below zero: +d2E/dR2 was wanted, "
                "not dF/dR (--negate changes the sign)"
            )
        if problem is not None:
            survey.quarantine.append(_quarantined(raw.structure.id, "bad labels", f"{raw.place}: {problem}"))
            continue
        assert matrix is not None
        seen.add(raw.structure.id)
        survey.ids.append(raw.structure.id)
        survey.groups.append(raw.structure.group)
        survey.elements |= set(raw.structure.numbers.tolist())
        asymmetry, drift = _errors(matrix)
        survey.asymmetry, survey.drift = max(survey.asymmetry, asymmetry), max(survey.drift, drift)
        survey.stiffest.append(float(np.diag(matrix).max()))
    return survey


def _quarantined(id: str, reason: str, text: str) -> QuarantineRow:
    return QuarantineRow(id=id, reason=reason, text=text, attempts=0)


def _require_sane(file: Path, survey: Survey, say: Say) -> None:
    if survey.n_read == 0:
        raise InputError(f"{file} has no structure.")
    if 2 * survey.n_negative > survey.n_read:
        raise InputError(
            f"{survey.n_negative} of {survey.n_read} Hessians in {file} have a negative trace: their sign is that of dF/dR and not "
            "of +d2E/dR2, which has a positive trace near any minimum. Say --negate, if that is what they are."
        )
    if not survey.ids:
        raise InputError(f"No structure of {file} is good; the first: {survey.quarantine[0].text}.")
    if survey.quarantine:
        say(
            f"{len(survey.quarantine)} of {survey.n_read} structures are in quarantine; the first: {survey.quarantine[0].text}."
        )
    typical = float(np.median(survey.stiffest))
    if not 3 < typical < 500:
        say(
            f"The stiffest coordinates have {typical:.3g} eV/A^2, where molecules have 10 to 100; "
            "are the units right? (1 hartree/bohr^2 is 97 eV/A^2)"
        )


def _blocks(file: Path, settings: ImportSettings, spec: HessianSpec, splits: Mapping[str, str]) -> Iterator[Block]:
    left = dict(splits)
    block: list[Sample] = []
    for raw in _labelled(file, settings, Survey()):
        if raw.structure.id not in left or _problem(raw) is not None:  # in quarantine, or a duplicate
            continue
        split = left.pop(raw.structure.id)
        block.append(_sample(raw, spec, settings.seed, split))
        if len(block) == AT_ONCE:
            yield _block(block, settings.codec)
            block = []
    if block:
        yield _block(block, settings.codec)
    if left:
        raise LabelSetError(f"{file} changed while it was read; import it again.")


def _block(block: list[Sample], codec: codecs.Codec) -> Block:
    arrays = to_arrays(block, codec)
    errors = codec_errors(block, arrays)
    return Block(arrays, float(errors.sum()), float(errors.max()), len(errors))


def _sample(raw: Raw, spec: HessianSpec, seed: int, split: str) -> Sample:
    s = raw.structure
    directions = draw(spec, seed, s.id, s.n_atoms)
    assert directions is not None
    assert raw.hessian is not None
    assert raw.forces is not None
    assert raw.energy is not None
    products = directions.vectors(s.n_atoms).reshape(-1, 3 * s.n_atoms) @ raw.hessian
    hessian = HessianProducts(directions, products.reshape(-1, s.n_atoms, 3).astype(np.float32))
    return Sample(s, Labels(raw.energy, raw.forces.astype(np.float32), None, hessian), split)


def _labelled(file: Path, settings: ImportSettings, survey: Survey) -> Iterator[Raw]:
    """The structures of a file with labels in eV and A and the sign of +d2E/dR2; what cannot be read goes to quarantine."""
    for raw in _read(file, settings, survey):
        stated = settings.units or raw.units
        if stated is None:
            raise InputError(
                f"{file} does not say in which units its energies, forces and Hessians are; "
                "say --units eV/A, hartree/bohr, hartree/A or kcal/mol/A."
            )
        if (
            raw.units is not None
            and settings.units is not None
            and parse_units(raw.units) != parse_units(settings.units)
        ):
            raise InputError(
                f"{raw.place} says {raw.units} of its units and --units {settings.units}; one of them is wrong."
            )
        try:
            energy, length = parse_units(stated)
        except ValueError as error:
            raise InputError(f"--units: {error}.") from error
        sign = -1 if settings.negate else 1
        n, matrix = raw.structure.n_atoms, raw.hessian
        if matrix is not None and matrix.size == 9 * n * n:
            matrix = matrix.reshape(3 * n, 3 * n)
        yield replace(
            raw,
            energy=None if raw.energy is None else raw.energy * energy,
            forces=None if raw.forces is None else raw.forces * (energy / length),
            hessian=None if matrix is None else matrix * (sign * energy / length**2),
        )


def _read(file: Path, settings: ImportSettings, survey: Survey) -> Iterator[Raw]:
    import h5py

    if h5py.is_hdf5(file):
        found = _hdf5(file, settings, survey)
    elif file.suffix == ".npz":
        found = _npz(file, settings, survey)
    elif file.suffix.lower() in (".lmdb", ".pt", ".pkl", ".pickle"):
        raise InputError(
            f"{file} holds pickled objects, which run code when they are opened; whoever trusts it writes it as extended XYZ or "
            "HDF5 first (docs/label-sets.md has the lines for HORM)."
        )
    else:
        found = _extxyz(file, settings, survey)
    for raw in found:
        survey.n_read += 1
        yield raw


def _extxyz(file: Path, settings: ImportSettings, survey: Survey) -> Iterator[Raw]:
    report, keys = SourceReport(), Keys(group=settings.group_key)
    for number, text in enumerate(xyz_frames(file)):
        place = f"{file.name}@{number}"
        try:
            atoms = parse_xyz(text)
            hessian = atoms.info.pop("hessian", None)
            if hessian is None:
                hessian = atoms.arrays.pop("hessian", None)
            found = structure_of(atoms, keys, report, place)
        except Unusable as unusable:
            survey.n_read += 1
            survey.quarantine.append(_quarantined("", unusable.reason, f"{place}: {unusable}"))
            continue
        structure = replace(found, ref_energy=None, ref_forces=None, ref_stress=None)
        yield Raw(structure, place, found.ref_energy, _floats(found.ref_forces), _floats(hessian))


def _hdf5(file: Path, settings: ImportSettings, survey: Survey) -> Iterator[Raw]:
    import h5py

    try:
        with h5py.File(file, "r", locking=False) as root:
            for name, group in _groups(root):
                fields = {key: group[key] for key in group if _is_plain(group, key)}
                scalars = {key: np.asarray(value) for key, value in group.attrs.items()}
                yield from _stack(file, name, {**scalars, **fields}, settings, survey)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{file} cannot be read any further ({error}); fetch it again.") from error


def _groups(group: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every group that holds a Hessian, by name; links that lead elsewhere are not followed."""
    import h5py

    if any(_is_plain(group, key) for key in NAMES["hessian"]):
        yield prefix.rstrip("/"), group
    for key in group if depth < MAX_DEPTH else ():
        if isinstance(group.get(key, getlink=True), h5py.HardLink) and isinstance(group[key], h5py.Group):
            yield from _groups(group[key], f"{prefix}{key}/", depth + 1)


def _is_plain(group: Any, key: str) -> bool:
    """Whether it is a dataset whose data lie in this very file."""
    import h5py

    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        return False
    dataset = group[key]
    return isinstance(dataset, h5py.Dataset) and not (dataset.is_virtual or dataset.external)


def _npz(file: Path, settings: ImportSettings, survey: Survey) -> Iterator[Raw]:
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive:
            too_large = [entry.filename for entry in archive.infolist() if entry.file_size > MAX_BYTES]
            if too_large:
                raise InputError(
                    f"{file}: {too_large[0]} is larger than {MAX_BYTES >> 30} GiB; write the data as HDF5."
                )
            fields = {
                entry.filename.removesuffix(".npy"): np.load(io.BytesIO(archive.read(entry)), allow_pickle=False)
                for entry in archive.infolist()
            }
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as npz without running code ({error}).") from error
    yield from _stack(file, file.stem, fields, settings, survey)


def _stack(file: Path, name: str, fields: Mapping[str, Any], settings: ImportSettings, survey: Survey) -> Iterator[Raw]:
    """The structures of one group of arrays: one, or a stack of them along the first dimension, read one at a time."""
    known = {
        what: next((fields[key] for key in keys if key in fields), None) for what, keys in NAMES.items()
    }  # fmt: skip
    where = f"{file.name}:{name}" if name else file.name
    numbers, positions, hessians = (known[what] for what in ("numbers", "positions", "hessian"))
    if numbers is None or positions is None or hessians is None or len(positions.shape) not in (2, 3):
        shown = ", ".join(sorted(fields)[:12])
        raise InputError(f"{where} must have atomic_numbers, positions (N,3) or (n,N,3), and hessian; it has {shown}.")
    stacked = len(positions.shape) == 3
    length = LENGTHS[(settings.length or _stated(positions, LENGTHS) or "A").lower()]
    units = _stated_units(hessians)

    def one(what: str, i: int) -> Any:
        value = known[what]
        if value is None:
            return None
        per_structure = stacked and len(value.shape) > 0 and value.shape[0] == positions.shape[0]
        if what == "numbers":
            per_structure = len(value.shape) == 2
        return np.asarray(value[i] if per_structure else value[()] if value.shape == () else value[:])

    for i in range(positions.shape[0] if stacked else 1):
        place = f"{where}@{i}"
        atoms = int(positions.shape[-2])
        if 8 * 9 * atoms * atoms > MAX_BYTES:
            raise InputError(f"{place}: a Hessian of {atoms} atoms is larger than {MAX_BYTES >> 30} GiB.")
        try:
            structure = Structure(
                numbers=np.asarray(one("numbers", i), np.int64),
                positions=np.asarray(positions[i] if stacked else positions[:], np.float64) * length,
                charge=_whole(one("charge", i), 0),
                spin=_whole(one("spin", i), 0),
                info={"source": place},
            )
            if (
                structure.numbers.shape != (atoms,)
                or not 1 <= structure.numbers.min() <= structure.numbers.max() <= 118
            ):
                raise ValueError(f"{structure.numbers.size} atomic numbers of 1 to 118 for {atoms} atoms were wanted")
            n_electrons = int(structure.numbers.sum()) - structure.charge
            group = name if name and stacked else hill_formula(structure.numbers.tolist())
            structure = replace(structure, group=group, spin=structure.spin or 1 + n_electrons % 2)
            forces = one("forces", i)
            gradient = one("gradient", i)
            if forces is None and gradient is not None:
                forces = -np.asarray(gradient, np.float64)
            energy = one("energy", i)
            energy = None if energy is None else float(np.asarray(energy, np.float64).reshape(()))
        except (TypeError, ValueError) as error:
            survey.n_read += 1
            survey.quarantine.append(_quarantined("", "bad structure", f"{place}: {error}"))
            continue
        yield Raw(structure, place, energy, _floats(forces), _floats(one("hessian", i)), units)


def _stated(dataset: Any, known: Mapping[str, float]) -> str | None:
    attributes = getattr(dataset, "attrs", {})
    text = next((str(attributes[key]) for key in ("units", "unit") if key in attributes), None)
    return text if text is not None and text.lower() in known else None


def _stated_units(hessians: Any) -> str | None:
    """'hartree/bohr' of a Hessian whose attribute says hartree/bohr^2."""
    attributes = getattr(hessians, "attrs", {})
    text = next((str(attributes[key]) for key in ("units", "unit") if key in attributes), None)
    if text is None:
        return None
    for ending in ("**2", "^2", "2"):
        if text.endswith(ending):
            return text.removesuffix(ending)
    return text


def _whole(value: Any, default: int) -> int:
    return default if value is None else int(np.asarray(value).reshape(()).item())


def _floats(value: Any) -> NDArray[np.float64] | None:
    return None if value is None else np.asarray(value, np.float64)


def _problem(raw: Raw) -> str | None:
    """Why a structure with its labels must not be stored, or None."""
    s, n = raw.structure, raw.structure.n_atoms
    if not (np.isfinite(s.positions).all() and np.isfinite(s.cell).all()):
        return "a position is not finite"
    if n > 1:
        apart = np.linalg.norm(s.positions[:, None] - s.positions[None], axis=2)[np.triu_indices(n, 1)].min()
        if apart < MIN_DISTANCE:
            return f"two atoms are {apart:.3f} A apart; is the unit of length right?"
    if raw.energy is None or not np.isfinite(raw.energy):
        return "it has no energy"
    if raw.forces is None or raw.forces.shape != (n, 3) or not np.isfinite(raw.forces).all():
        return "it has no forces of its atoms"
    if raw.hessian is None:
        return "it has no Hessian"
    if raw.hessian.shape != (3 * n, 3 * n):
        return f"its Hessian has {raw.hessian.size} numbers, {9 * n * n} were wanted"
    if not np.isfinite(raw.hessian).all():
        return "its Hessian is not finite"
    largest = float(np.abs(raw.hessian).max())
    asymmetry, drift = _errors(raw.hessian)
    if asymmetry * largest > FLOOR + MAX_ASYMMETRY * largest:
        return f"its Hessian is not symmetric, by {asymmetry * largest:.3g} eV/A^2"
    if drift * largest > FLOOR + MAX_DRIFT * largest:
        return f"its Hessian changes under translation, by {drift * largest:.3g} eV/A^2"
    return None


def _errors(matrix: NDArray[np.float64]) -> tuple[float, float]:
    """Asymmetry and change under translation, of the largest element."""
    largest = float(np.abs(matrix).max())
    if largest == 0:
        return 0.0, 0.0
    n = len(matrix) // 3
    drift = matrix.reshape(3 * n, n, 3).sum(axis=1)
    return float(np.abs(matrix - matrix.T).max()) / largest, float(np.abs(drift).max()) / largest


def _facts(file: Path, settings: ImportSettings, survey: Survey, spec: HessianSpec, unit: Unit) -> Facts:
    """What is known of reference data: who made them stands where a teacher would."""
    stated = {
        "hessian": settings.hessian,
        **{key: getattr(settings, key) for key in ("units", "length", "negate", "seed", "splits", "group_key")},
    }
    licence_class = licences.KNOWN[settings.licence].license_class if settings.licence in licences.KNOWN else "unknown"
    inputs = (InputFile(name=file.name, bytes=file.stat().st_size, sha256=sha256_of(file)),)
    return Facts(
        plan=digest_of({"import": stated, "inputs": as_json(inputs)}),
        teacher=TeacherRecord(
            name="reference data",
            family="reference",
            task=None,
            dtype="float64",
            device="",
            elements=tuple(sorted(survey.elements)),
            conservative=True,
            has_stress=False,
            hessian_method="as published",
            weights_sha256=None,
            weights_license=settings.licence,
            license_class=licence_class,
            level_of_theory=settings.level_of_theory or "unknown",
            citation=settings.citation or "unknown",
            versions={},
            arguments={},
        ),
        hessian=HessianSettings(
            kind=spec.kind, per_structure=spec.count or None, seed=settings.seed, codec=settings.codec
        ),
        preflight=Preflight(
            dtype="float64",
            product_difference_error=None,
            force_difference_error=None,
            largest_asymmetry=survey.asymmetry,
            largest_change_under_translation=survey.drift,
        ),
        subset=Subset(
            names=(file.name,),
            where=None,
            limit=None,
            seed=settings.seed,
            inputs=inputs,
            n_read=survey.n_read,
            n_duplicates=survey.n_duplicates,
            skipped={},
            taken={},
            license=settings.licence,
            citation=(settings.citation,) if settings.citation else (),
        ),
        splits=SplitSettings(fractions=settings.splits, seed=settings.seed, by=unit),
        licenses=LicenseSettings(
            structures=settings.licence, weights=settings.licence, weights_class=licence_class, code="MIT"
        ),
        quarantine=survey.quarantine,
        history=History(made_by="import", settings=stated),
    )
