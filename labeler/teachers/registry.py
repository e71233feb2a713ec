"""The teachers hdistill knows by name: family, licence of the weights, level of theory, citation; and what each family needs.

Light on purpose: the command line, the coordinator and the adapters all read it. Licences are of the weights, per checkpoint
(information, not legal advice); a checkpoint file that a user names has the licence "unknown" until they state one.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from hdistill.data.errors import InputError

from .contract import TeacherRequest

LicenseClass = Literal["open", "copyleft", "nc", "gated", "unknown"]


@dataclass(frozen=True)
class Family:
    """One environment: the module in `teachers/`, the package that tells whether it is installed, what to install."""

    name: str
    package: str  # import name that must be importable in the family's interpreter
    requirements: tuple[str, ...]  # a set known to work together, for `hdistill teachers install`


@dataclass(frozen=True)
class Entry:
    """One teacher by name. `elements` is what its documentation says; the loaded teacher has the last word."""

    name: str
    family: str
    model: str
    elements: str
    weights_license: str
    license_class: LicenseClass
    level_of_theory: str
    citation: str
    task: str = ""  # the tasks (modals, heads) to choose from, where a choice must be made


TORCH = "torch==2.13.0"
# What hdistill itself needs to fit and use MACE students in that environment.
TRAINER = (
    *("h5py==3.16.0", "safetensors==0.8.0", "click==8.5.1", "vesin==0.6.2", "simpleeval==1.0.8", "tqdm==4.70.1"),
    *("msgspec==0.22.0", "filelock==4.3.1"),
)
FAMILIES = {
    family.name: family
    for family in (
        Family("lennard_jones", "vesin", ()),  # comes with hdistill
        Family("sevennet", "sevenn", (TORCH, "sevenn==0.13.0", "numpy==2.4.6", "ase==3.29.0", "setuptools<81")),
        Family("chgnet", "chgnet", (TORCH, "chgnet==0.4.2", "numpy==2.4.6", "ase==3.29.0")),
        Family("torchani", "torchani", (TORCH, "torchani==2.2.4", "ase==3.29.0", "setuptools<81", "lark-parser")),
        Family("mace", "mace", (TORCH, "mace-torch==0.3.16", "e3nn==0.4.4", "numpy==2.4.6", "ase==3.29.0", *TRAINER)),
        Family("fairchem", "fairchem.core", (TORCH, "fairchem-core==2.24.0", "ase==3.29.0")),
        Family(
            "outside", "torch", ()
        ),  # what installed packages offer, hdistill's own students among it; see --teacher-python
        Family("ase", "ase", ()),  # any interpreter that can import the calculator: hdistill's own, or --teacher-python
    )
}

_MIT: tuple[str, LicenseClass] = ("MIT", "open")
_ASL: tuple[str, LicenseClass] = ("Academic Software License (non-commercial)", "nc")
_FAIR: tuple[str, LicenseClass] = ("FAIR Chemistry License v1", "gated")
_SEVENNET: tuple[str, LicenseClass] = ("GPL-3.0 (as listed for the weights; the package is MIT)", "copyleft")
_MACE = "I. Batatia et al., arXiv:2401.00096"
_MACE_OFF = "D. P. Kovacs et al., J. Am. Chem. Soc. 147, 17598 (2025), arXiv:2312.15211"
_SEVENN = "Y. Park et al., J. Chem. Theory Comput. 20, 4857 (2024)"
_CHGNET = "B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023)"
_UMA = "B. M. Wood et al., arXiv:2506.23971"
_ESEN = "X. Fu et al., arXiv:2502.12147"
_ANI = "J. S. Smith et al., J. Chem. Phys. 148, 241733 (2018); X. Gao et al., J. Chem. Inf. Model. 60, 3408 (2020)"
_PBE_U = "PBE and PBE+U (Materials Project)"
_OMOL_TASKS = "omol, omat, oc20, odac, omc"

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry(
            "lennard-jones",
            "lennard_jones",
            "",
            "all",
            *_MIT,
            "Lennard-Jones 12-6, argon's eps = 0.0104 eV, sigma = 3.4 A, cut smoothly at 6.5 A",
            "J. E. Lennard-Jones (1924)",
        ),
        Entry("7net-0", "sevennet", "7net-0", "89 elements", *_SEVENNET, _PBE_U, _SEVENN),
        Entry("7net-l3i5", "sevennet", "7net-l3i5", "89 elements", *_SEVENNET, _PBE_U, _SEVENN),
        Entry(
            "7net-mf-0",
            "sevennet",
            "7net-mf-0",
            "89 elements",
            *_SEVENNET,
            "PBE or r2SCAN, by modal",
            _SEVENN,
            "PBE, R2SCAN",
        ),
        Entry("chgnet", "chgnet", "0.3.0", "89 elements", "modified BSD", "open", _PBE_U, _CHGNET),
        Entry("chgnet-r2scan", "chgnet", "r2scan", "89 elements", "modified BSD", "open", "r2SCAN", _CHGNET),
        Entry("mace-mp", "mace", "mace-mp:medium", "89 elements", *_MIT, _PBE_U, _MACE),
        Entry(
            "mace-off",
            "mace",
            "mace-off:medium",
            "H B C N O F Si P S Cl Br I",
            *_ASL,
            "wB97M-D3(BJ)/def2-TZVPPD",
            _MACE_OFF,
        ),
        Entry("ani-1x", "torchani", "ani-1x", "H C N O", *_MIT, "wB97X/6-31G(d)", _ANI),
        Entry("uma-s-1p1", "fairchem", "uma-s-1p1", "by task", *_FAIR, "by task", _UMA, _OMOL_TASKS),
        Entry("uma-s-1p2", "fairchem", "uma-s-1p2", "by task", *_FAIR, "by task", _UMA, _OMOL_TASKS),
        Entry("uma-m-1p1", "fairchem", "uma-m-1p1", "by task", *_FAIR, "by task", _UMA, _OMOL_TASKS),
        Entry(
            "esen-sm-conserving-all-omol",
            "fairchem",
            "esen-sm-conserving-all-omol",
            "by task",
            *_FAIR,
            "wB97M-V/def2-TZVPD",
            _ESEN,
        ),
        Entry(
            "esen-sm-direct-all-omol",
            "fairchem",
            "esen-sm-direct-all-omol",
            "by task",
            *_FAIR,
            "wB97M-V/def2-TZVPD",
            _ESEN,
        ),
    )
}

# Sizes of mace-mp whose weights are not MIT: https://github.com/ACEsuit/mace-foundations lists them one by one.
_MACE_ASL_WORDS = ("omat", "matpes", "omol", "mh-")


def entry(name: str) -> Entry:
    """The entry of a teacher's name as a user types it; also for sizes (mace-mp:small), files, ase:module.Class and what other
    packages offer: student:RUN and outside:NAME:MODEL.

    Raises InputError for a name that is none of these, with the nearest known one.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    head, _, rest = name.partition(":")
    if head in ("mace-mp", "mace-off") and rest:
        return _mace_size(head, rest)
    if head == "ase" and "." in rest:
        return _unknown(name, "ase", rest)
    if head in ("student", "outside") and rest:
        return _unknown(name, "outside", name if head == "student" else rest)
    if head in ("mace", "fairchem") and rest:
        return _unknown(name, head, rest)
    if name.endswith((".model", ".pt")):
        return _unknown(name, "mace" if name.endswith(".model") else "fairchem", name)
    if name.startswith(
        ("uma-", "esen-", "allscaip-")
    ):  # newer checkpoints than this list; fairchem knows them or refuses
        return Entry(name, "fairchem", name, "by task", *_FAIR, "by task", _UMA)
    known = ", ".join(ENTRIES)
    raise InputError(
        f"No teacher is called '{name}'.{_suggestion(name)} Known: {known}; mace-mp:SIZE, mace-off:SIZE, "
        "a MACE .model file, a fairchem .pt file, student:RUN (a folder of `hdistill fit`), ase:module.Class, outside:NAME:MODEL."
    )


def ignores_charge(name: str, task: str | None = None) -> bool:
    """Whether a teacher's model surely does not know the charge of what it labels. Models from files and of other packages may."""
    known = entry(name)
    if known.family == "fairchem":
        return task not in (None, "omol") and name.startswith("uma-")
    plain_mace = known.family == "mace" and is_built_in(name) and not any(word in name for word in ("omol", "mh-"))
    return (
        plain_mace or known.family in ("sevennet", "chgnet", "torchani", "lennard_jones") or name.startswith("student:")
    )


def is_built_in(name: str) -> bool:
    """Whether a name can only mean weights that its package offers under that name: no file, no module, no address.

    What a stranger's manifest says may be asked for if it is such a name.
    """
    head, _, size = name.partition(":")
    sizes = (
        head in ("mace-mp", "mace-off") and re.fullmatch("[a-z0-9-]+", size) is not None
    )  # the adapter has a list of them
    return name in ENTRIES or sizes


def request(
    name: str,
    task: str | None = None,
    dtype: Literal["float32", "float64"] = "float32",
    device: str = "cpu",
    arguments: Mapping[str, Any] = MappingProxyType({}),
) -> TeacherRequest:
    """What the teacher process is asked to load. File names become absolute. Raises InputError."""
    known = entry(name)
    if arguments and known.family != "ase":
        raise InputError(f"--argument is for ase:module.Class; {name} takes none.")
    model = known.model
    if known.family != "outside" and model.endswith((".model", ".pt")):
        path = Path(model).expanduser()
        if not path.is_file():
            raise InputError(f"The teacher's checkpoint {model} was not found; give the path of an existing file.")
        model = str(path.resolve())
    if known.family == "outside":
        offer, _, given = model.partition(":")
        if given and Path(given).expanduser().exists():  # a file or folder; what else it may be, the package knows
            model = f"{offer}:{Path(given).expanduser().resolve()}"
    return TeacherRequest(name, known.family, model, task, dtype, device, dict(arguments))


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """('rc=6.5', 'label=x') as {'rc': 6.5, 'label': 'x'}: values are JSON where they can be read so, else text."""
    arguments: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name.isidentifier()):
            raise InputError(f"--argument was '{text}'; it takes NAME=VALUE.")
        try:
            arguments[name] = json.loads(value)
        except ValueError:
            arguments[name] = value
    return arguments


def _suggestion(name: str) -> str:
    """' Did you mean ...?' for a name in other letters, a family's or package's name, a beginning, or a slip; else nothing."""
    head, colon, size = name.lower().replace("_", "-").partition(":")
    teachers: dict[str, list[str]] = {}
    for family in FAMILIES.values():
        members = [e.name for e in ENTRIES.values() if e.family == family.name]
        teachers |= dict.fromkeys((family.name.replace("_", "-"), family.package.partition(".")[0]), members)
    teachers |= {e.name: [e.name] for e in ENTRIES.values()}
    near = difflib.get_close_matches(head, [key for key, members in teachers.items() if members], n=1)
    beginning = [known for known in ENTRIES if head and known.startswith(head)]
    meant = teachers.get(head) or beginning or (teachers[near[0]] if near else [])
    if colon and size:
        meant = [f"{known}:{size}" for known in meant if known.startswith("mace-")] or meant
    return f" Did you mean {' or '.join(repr(known) for known in meant)}?" if meant else ""


def _mace_size(head: str, size: str) -> Entry:
    base = ENTRIES[head]
    terms = _ASL if head == "mace-off" or any(word in size for word in _MACE_ASL_WORDS) else _MIT
    return Entry(f"{head}:{size}", "mace", f"{head}:{size}", base.elements, *terms, base.level_of_theory, base.citation)


def _unknown(name: str, family: str, model: str) -> Entry:
    return Entry(name, family, model, "see the checkpoint", "unknown", "unknown", "unknown", "unknown")
