"""What others may do with a label set: the stricter of what its structures and the teacher's weights allow.

Information, not legal advice. Classes, from the widest to the narrowest: open < copyleft < nc (non-commercial) < gated (terms
that each user must accept) < unknown. A set of the last three is pushed only by who says to have permission (remote.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import InputError, LicenceError, nearest
from ..format.records import LicenseClass, Manifest
from ..support.typed import fields_of

CLASSES: tuple[LicenseClass, ...] = get_args(LicenseClass)  # open < copyleft < nc < gated < unknown
MAY_BE_PUSHED = ("open", "copyleft")
UNKNOWN: Literal["unknown"] = "unknown"
JOIN = " + "


@dataclass(frozen=True)
class Known:
    """A licence by its SPDX id; `asks` orders licences of one class by how much they ask for."""

    id: str
    license_class: LicenseClass
    asks: int


KNOWN = {
    known.id: known
    for known in (
        Known("CC0-1.0", "open", 0),
        Known("PDDL-1.0", "open", 0),
        Known("0BSD", "open", 0),
        Known("MIT", "open", 1),
        Known("BSD-2-Clause", "open", 2),
        Known("BSD-3-Clause", "open", 3),
        Known("Apache-2.0", "open", 4),
        Known("ODC-By-1.0", "open", 5),
        Known("CC-BY-4.0", "open", 6),
        Known("ODbL-1.0", "copyleft", 0),
        Known("CC-BY-SA-4.0", "copyleft", 1),
        Known("LGPL-3.0", "copyleft", 2),
        Known("GPL-2.0", "copyleft", 3),
        Known("GPL-3.0", "copyleft", 4),
        Known("CC-BY-NC-4.0", "nc", 0),
        Known("CC-BY-NC-SA-4.0", "nc", 1),
    )
}
_OTHER_NAMES = {"modified BSD": "BSD-3-Clause", "BSD": "BSD-3-Clause", "CC0": "CC0-1.0", "Apache 2.0": "Apache-2.0"}


@dataclass(frozen=True)
class Licence:
    """id: SPDX, or the name of a text that has no SPDX id, or 'unknown'; several that hold at once are joined by ' + '."""

    id: str
    license_class: LicenseClass
    why: str


def labels_licence(structures: str, weights: str, weights_class: str) -> Licence:
    """The licence of labels made by weights on structures: all of the narrowest class that occurs, and why.

    Of open licences the one that asks for most is taken: who meets it meets the others, but for naming their authors.
    """
    parts = [(name, _class_of(name), "structures") for name in _split(structures)]
    parts += [(name, _weights_class(name, weights_class), "weights") for name in _split(weights)]
    narrowest = max((license_class for _, license_class, _ in parts), key=CLASSES.index)
    deciding = [(name, side) for name, license_class, side in parts if license_class == narrowest]
    names = sorted({spdx(name) for name, _ in deciding}, key=lambda name: (_asks(name), name))
    if narrowest == "open":
        names = names[-1:]
    if narrowest == UNKNOWN:
        names = [UNKNOWN]
    sides = sorted({side for _, side in deciding})
    return Licence(JOIN.join(names), narrowest, _why(narrowest, sides, structures, weights))


def of_manifest(manifest: Manifest, stated: Mapping[str, str] | None = None) -> Licence:
    """The licence of a label set, worked out anew from its structures and weights: what a file claims is not believed.

    stated: what the publisher says of `structures` or `weights` where the manifest does not know.
    """
    return of_licenses(fields_of(manifest.licenses), stated)


def of_licenses(licenses: Mapping[str, Any], stated: Mapping[str, str] | None = None) -> Licence:
    """The same of a manifest's `licenses`, as a student's card has them; what is missing there is unknown."""
    used = with_stated(licenses, stated or {})
    return labels_licence(used["structures"], used["weights"], used["weights_class"])


def with_stated(licenses: Mapping[str, Any], stated: Mapping[str, str]) -> dict[str, str]:
    """structures, weights and weights_class, where 'unknown' is replaced by what was stated; what is known stays."""
    structures = str(licenses.get("structures", UNKNOWN))
    weights, weights_class = str(licenses.get("weights", UNKNOWN)), str(licenses.get("weights_class", UNKNOWN))
    if "structures" in stated:
        structures = JOIN.join(stated["structures"] if part == UNKNOWN else part for part in _split(structures))
    if "weights" in stated and weights_class == UNKNOWN:
        weights, weights_class = stated["weights"], _class_of(stated["weights"])
    return {"structures": structures, "weights": weights, "weights_class": weights_class}


def require_known(name: str) -> str:
    """The SPDX id of a licence that a user names. Raises InputError with the nearest known one."""
    for known in KNOWN:
        if name.lower() == known.lower():
            return known
    if spdx(name) in KNOWN:
        return spdx(name)
    raise InputError(f"'{name}' is not a licence known here.{nearest(name, KNOWN)} Known: {', '.join(KNOWN)}.")


def spdx(name: str) -> str:
    """The SPDX id of a licence that goes by another name, else the name itself; of 'GPL-3.0 (as listed ...)' the id alone."""
    head = name.partition(" (")[0]
    return _OTHER_NAMES.get(name, head if head in KNOWN else name)


def _split(names: str) -> Sequence[str]:
    return [name.strip() for name in names.split(JOIN) if name.strip()] or [UNKNOWN]


def _class_of(name: str) -> LicenseClass:
    known = KNOWN.get(spdx(name))
    return known.license_class if known else UNKNOWN


def _weights_class(name: str, stated: str) -> LicenseClass:
    """The narrower of what the catalogue says of the weights and what their licence's name says, where it says something."""
    by_record: LicenseClass = next((known for known in CLASSES if known == stated), UNKNOWN)
    known = KNOWN.get(spdx(name))
    return max(by_record, known.license_class, key=CLASSES.index) if known else by_record


def _asks(name: str) -> int:
    known = KNOWN.get(name)
    return known.asks if known else 99


def _why(narrowest: str, sides: Sequence[str], structures: str, weights: str) -> str:
    both = f"structures: {structures}; weights: {weights}"
    who = " and ".join(sides)
    are = {
        "open": "all are open, and the one that asks for most is taken",
        "copyleft": f"the {who} are under copyleft, which labels made from them inherit",
        "nc": f"the {who} may not be used commercially, and neither may labels made from them",
        "gated": f"the {who} come with terms that every user must accept",
        "unknown": f"nobody has said under which licence the {who} are",
    }
    return f"{are[narrowest]} ({both})"


def require_may_be_pushed(licence: Licence, folder: Path, what: str, how_to_state: str) -> None:
    """Raise LicenceError, with what to do, unless the licence lets anybody pass on `what` the folder holds; how_to_state: the way to say
    it where it is unknown, up to "; else ..."."""
    if licence.license_class in MAY_BE_PUSHED:
        return
    how = "ask who holds the rights, and with their permission give --i-have-permission, which is recorded"
    if licence.license_class == UNKNOWN:
        how = how_to_state + " --i-have-permission, which is recorded"
    raise LicenceError(
        f"{folder} was not pushed: {what} under '{licence.id}' (class {licence.license_class}), since {licence.why}; {how}."
    )
