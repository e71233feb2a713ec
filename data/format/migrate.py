"""Manifests of older versions: each step takes the JSON of one version to the next. Files on disk stay as they are.

1 -> 2   what a set was made with is in `history.settings`; every field that was left out where it did not apply is there
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from ..errors import LabelSetError
from ..support.typed import shown

MANIFEST_VERSION: Literal[2] = 2
Json = dict[str, Any]


def migrated(manifest: Json, what: str) -> Json:
    """A manifest as the present version has it; `what` names it in errors. Raises LabelSetError for an unknown version."""
    version = manifest.get("version")
    if type(version) is not int or not 1 <= version <= MANIFEST_VERSION:
        raise LabelSetError(
            f"{what} is a label set of version {shown(version)}; this hdistill reads versions 1 to {MANIFEST_VERSION}. "
            "Install the hdistill that wrote it."
        )
    while version < MANIFEST_VERSION:
        manifest = STEPS[version](manifest) | {"version": version + 1}
        version += 1
    return manifest


def _from_1(manifest: Json) -> Json:
    """Settings of merge, subset and import lay between the other fields of `history`; old sets have fewer fields."""
    changed = dict(manifest)
    _fill(changed, "teacher", arguments={})
    _fill(changed, "hessian", n_computed=None)
    _fill(changed, "subset", **_SUBSET)
    if isinstance(changed.get("quarantine"), list):
        changed["quarantine"] = [_with(row, attempts=0) for row in changed["quarantine"]]
    if "history" in changed:
        changed["history"] = _history_from_1(changed["history"])
    return changed


_SUBSET: Json = {
    **{"where": None, "limit": None, "seed": None, "inputs": [], "n_read": 0, "n_duplicates": 0},
    **{"skipped": {}, "taken": {}, "license": "unknown", "citation": []},
}
_SETTINGS_1 = ("hessian", "units", "length", "negate", "seed", "splits", "group_key", "where", "split", "limit")


def _history_from_1(history: Any) -> Any:
    if not isinstance(history, dict):
        return history
    settings = {key: history[key] for key in _SETTINGS_1 if key in history}
    changed = {key: value for key, value in history.items() if key not in settings}
    if settings:
        changed["settings"] = settings
    if isinstance(changed.get("parents"), list):
        changed["parents"] = [_parent_from_1(parent) for parent in changed["parents"]]
    return changed


def _parent_from_1(parent: Any) -> Any:
    if not isinstance(parent, dict):
        return parent
    changed = dict(parent)
    _fill(changed, "subset", **_SUBSET)
    if "history" in changed:
        changed["history"] = _history_from_1(changed["history"])
    return changed


def _fill(manifest: Json, section: str, **fields: Any) -> None:
    if section in manifest:
        manifest[section] = _with(manifest[section], **fields)


def _with(value: Any, **fields: Any) -> Any:
    """An object with the fields that it lacks; what is not an object is left to the parser."""
    return {**fields, **value} if isinstance(value, dict) else value


STEPS: dict[int, Callable[[Json], Json]] = {1: _from_1}
