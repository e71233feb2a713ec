"""Students to and from an address."""

from __future__ import annotations

from .arguments import Place, folder_of
from .printed import Figures


def push_bundle(
    bundle: Place, destination: Place, *, permission_by: str | None = None, replace: bool = False
) -> Figures:
    """Copy a bundle of export(..., to="bundle") to hf://OWNER/NAME, s3://, gs:// or a folder.

    permission_by: who has the permission to push what the licences do not let one share. replace: in place of another bundle there.
    Raises LicenceError, RemoteError; InputError: no bundle, damaged, another one is there.
    """
    from hdistill.trainer.force_field.engines.bundle_push import push_bundle as run_push

    moved = run_push(folder_of(bundle), str(destination), permission_by, replace)
    return Figures(moved.as_json(), lambda figures: _summary(figures, "pushed to"))


def pull_bundle(source: Place, out: Place) -> Figures:
    """Copy a bundle from hf://OWNER/NAME, s3://, gs://, http(s):// or a folder into a new folder; every file is hashed first."""
    from hdistill.trainer.bundles.remote import pull_bundle as run_pull

    pulled = run_pull(str(source), folder_of(out))
    return Figures(pulled.as_json(), lambda figures: _summary(figures, "pulled from"))


def _summary(figures: dict[str, object], what: str) -> str:
    return (
        f"{figures['folder']} {what} {figures['address']}: {figures['n_moved']} of {figures['n_files']} files moved "
        f"({figures['bytes']} bytes); licence of the student: {figures['license']}.\ndigest {figures['digest']}"
    )
