"""Manifests of made-up sets, whole, as JSON: what tests change and what writers and readers are then given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hdistill.data.format.records import (
    HessianSettings,
    History,
    LicenseSettings,
    Preflight,
    QuarantineRow,
    SplitSettings,
    Subset,
    TeacherRecord,
)
from hdistill.data.format.schema import FORMAT, SIGN, SPLITS, UNITS
from hdistill.data.format.shard_file import Arrays
from hdistill.data.labelsets.facts import Facts
from hdistill.data.support.typed import typed

TEACHER: dict[str, Any] = {
    **{"name": "made-up", "family": "lennard_jones", "task": None, "dtype": "float32", "device": "cpu"},
    **{"elements": list(range(1, 9)), "conservative": True, "has_stress": True, "hessian_method": "analytic"},
    **{"weights_sha256": "ab" * 32, "weights_license": "MIT", "license_class": "open"},
    **{"level_of_theory": "none", "citation": "nobody", "versions": {"torch": "2.13.0", "madeup": "1.0"}},
    "arguments": {},
}
PREFLIGHT: dict[str, Any] = {"dtype": "float64", "product_difference_error": 1e-8, "force_difference_error": 1e-8}
SUBSET: dict[str, Any] = {
    **{"names": ["made.xyz"], "where": None, "limit": None, "seed": 0},
    **{"inputs": [{"name": "made.xyz", "bytes": 1, "sha256": "cd" * 32}], "n_read": 5, "n_duplicates": 0},
    **{"skipped": {}, "taken": {}, "license": "MIT", "citation": ["them"]},
}
SPLITTING: dict[str, Any] = {"fractions": "0.8,0.1,0.1", "seed": 0, "by": "group"}
LICENSES: dict[str, Any] = {"structures": "MIT", "weights": "MIT", "weights_class": "open", "code": "MIT"}
RECORDS: dict[str, Any] = {
    "teacher": TeacherRecord,
    "hessian": HessianSettings,
    "preflight": Preflight,
    "subset": Subset,
    "splits": SplitSettings,
    "licenses": LicenseSettings,
    "quarantine": tuple[QuarantineRow, ...],
    "history": History,
}


def facts_of_json(**sections: Any) -> Facts:
    """The facts of a label set, from sections as they stand in JSON."""
    return Facts(**records(sections))


def records(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Sections by name as typed records."""
    return {
        name: typed(value, RECORDS[name], name) if name in RECORDS and isinstance(value, dict | list) else value
        for name, value in sections.items()
    }


def manifest_json(arrays: Sequence[Arrays], shards: Sequence[Mapping[str, Any]], **changed: Any) -> dict[str, Any]:
    """manifest.json of shards with these arrays, all counts right."""
    elements: Counter[int] = Counter()
    splits: Counter[str] = Counter()
    groups: set[bytes] = set()
    n_elements = 0
    for shard in arrays:
        atoms, products = np.diff(shard["atom_offsets"]), np.diff(shard["product_offsets"])
        owner = np.repeat(np.arange(len(atoms)), atoms)
        elements.update(np.unique(np.stack([owner, shard["numbers"]]), axis=1)[1].tolist())
        splits.update(SPLITS[i] for i in shard["split"].tolist())
        groups.update(shard["group"].tolist())
        n_elements += int((3 * atoms * products).sum())
    first = arrays[0] if arrays else {}
    kind = "rows" if "hessian_coordinate" in first else "probes" if "hessian_signs" in first else "none"
    codec = "compact" if "hessian_exponent" in first or kind == "none" else "exact"
    whole = {
        "format": FORMAT,
        "version": 2,
        "plan": "test",
        "units": UNITS,
        "sign": SIGN,
        "teacher": TEACHER,
        "hessian": {
            **{"kind": kind, "per_structure": None, "seed": 0, "codec": codec},
            **{"n_products": sum(int(shard["product_offsets"][-1]) for shard in arrays), "n_elements": n_elements},
            **{"n_computed": None, "codec_error_mean": 1e-3, "codec_error_max": 5e-3, "bytes": 0},
            "bytes_per_element": None,
        },
        "preflight": PREFLIGHT,
        "subset": SUBSET,
        "counts": {
            "n_structures": sum(len(shard["id"]) for shard in arrays),
            "n_atoms": sum(len(shard["numbers"]) for shard in arrays),
            "n_groups": len(groups),
            "n_quarantined": 0,
            "elements": {str(z): n for z, n in sorted(elements.items())},
        },
        "splits": {**SPLITTING, "n_structures": {name: splits[name] for name in SPLITS}},
        "quarantine": [],
        "licenses": {**LICENSES, "labels": "MIT", "labels_class": "open", "labels_why": "all are open"},
        "environment": {"python": "3.11.7"},
        "shards": list(shards),
    }
    return whole | changed
