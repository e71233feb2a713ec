"""A bundle to an address: checked, its licence worked out anew, its index last. pull and use are of bundles/remote.py."""

from __future__ import annotations

from pathlib import Path

from hdistill.data.errors import InputError
from hdistill.data.publication.licences import Licence, of_licenses, require_may_be_pushed
from hdistill.data.publication.statement import PERMISSION, as_bytes
from hdistill.data.sharing.failures import Missing
from hdistill.data.sharing.push_pull import permission_for
from hdistill.data.sharing.store import require_writable
from hdistill.data.support.strict_json import loads

from ...bundles.index import BUNDLE, CARD, digest_of, parsed, require_whole_bundle
from ...bundles.remote import MOST_INDEX_BYTES, Copied, bundle_store, copied
from ..checkpoint import load_student


def push_bundle(folder: Path, destination: str, permission_by: str | None = None, replace: bool = False) -> Copied:
    """Copy a bundle to a folder or an address, its index last. replace: what another bundle there is called may become of this one.

    permission_by: who says to have permission, where the licences do not give it; it is recorded beside the bundle there. Raises
    LicenceError where they do not and nobody says so, InputError (no bundle, damaged, another one is there), RemoteError.
    """
    if not (folder / BUNDLE).is_file():
        raise InputError(
            f"{folder} is not a bundle (it has no {BUNDLE}); make one: hdistill export RUN --to bundle -o {folder}"
        )
    require_whole_bundle(folder)
    licence = _licence(folder)
    if permission_by is None:
        how = "if you know that of the structures, export the bundle anew with --licence SPDX; else give"
        require_may_be_pushed(licence, folder, "its student is", how)
    place = bundle_store(destination)
    require_writable(place)
    index = (folder / BUNDLE).read_bytes()
    try:
        there = place.read(BUNDLE, MOST_INDEX_BYTES)
    except Missing:
        there = index
    if there != index and not replace:
        raise InputError(f"{place.address} holds another bundle; push to another place, or give --replace.")
    n_bytes, names = 0, sorted(parsed(index, BUNDLE))
    for name in names:  # a few files of a MB: what is there already is not worth asking for
        place.put(name, folder / name)
        n_bytes += (folder / name).stat().st_size
    if permission_by is not None:
        place.write(PERMISSION, as_bytes(permission_for(place, permission_by, digest_of(folder), licence)))
    place.write(BUNDLE, index)
    return copied(place, folder, len(names), n_bytes)


def _licence(folder: Path) -> Licence:
    """What the weights' own header knows cannot be overruled; student.json says of the structures what nobody else has said."""
    licenses = load_student(folder).card.licenses or {}
    try:
        stated = str(loads((folder / CARD).read_bytes())["licenses"]["structures"])
    except (OSError, ValueError, LookupError, TypeError):
        return of_licenses(licenses)
    return of_licenses(licenses, {"structures": stated})
