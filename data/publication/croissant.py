"""croissant.json: what a label set is, for programs and search engines (Croissant 1.1, MLCommons, 2025).

Croissant's record sets describe tables, texts and images; flat HDF5 arrays with offsets are none of these, so the shards are
listed as files with their hashes, the arrays are described in words, and the only record set is that of the splits.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ..format.manifest import MANIFEST, SHARDS
from ..format.records import Manifest
from ..support.text import published_json
from .card import citations, digest, tags, teacher_name, title
from .licences import JOIN, KNOWN, of_manifest
from .statement import Publication

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(manifest: bytes, content: Manifest, stated: Publication) -> bytes:
    """croissant.json of a label set; `content` is the manifest parsed."""
    licence = of_manifest(content, stated.stated_licenses)
    licenses = [f"https://spdx.org/licenses/{i}.html" if i in KNOWN else i for i in licence.id.split(JOIN)]
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": title(content, stated),
        "description": _description(content),
        "keywords": tags(content),
        "license": licenses[0] if len(licenses) == 1 else licenses,
        "citeAs": "; ".join(citations(content)),
        "version": stated.release,
        "identifier": f"sha256:{digest(content)}",
    }
    if stated.url:
        document["url"] = stated.url
    if stated.date:
        document["datePublished"] = stated.date
    if stated.authors:
        document["creator"] = [{"@type": "Person", "name": name} for name in stated.authors]
    document["distribution"] = _distribution(manifest, content)
    document["recordSet"] = [_splits(content)]
    return (json.dumps(published_json(document), indent=1, ensure_ascii=False) + "\n").encode()


def _description(content: Manifest) -> str:
    counts, teacher, hessian = content.counts, content.teacher, content.hessian
    units = "; ".join(f"{name} in {unit}" for name, unit in content.units.items())
    return (
        f"Labels for distilling a force field: energies, forces, stresses and {hessian.n_products} Hessian products "
        f"({hessian.kind}) of {counts.n_structures} structures ({counts.n_atoms} atoms), computed by {teacher_name(content)} "
        f"({teacher.level_of_theory}). {units}. {content.sign}. The shards are HDF5 files of flat arrays with "
        "offsets, which a Croissant record set cannot describe; every array states its unit and meaning, and manifest.json has "
        "everything else. Read them with hdistill, or with h5py as hdistill's docs/format.md shows."
    )


def _distribution(manifest: bytes, content: Manifest) -> list[dict[str, Any]]:
    files = [_file(MANIFEST, MANIFEST, len(manifest), hashlib.sha256(manifest).hexdigest(), "application/json")]
    for shard in content.shards:
        path = f"{SHARDS}/{shard.name}"
        files.append(_file(path, shard.name, shard.bytes, shard.sha256, "application/x-hdf5"))
    return files


def _file(path: str, name: str, n_bytes: int, sha256: str, media_type: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": name,
        "contentUrl": path,
        "contentSize": f"{n_bytes} B",
        "encodingFormat": media_type,
        "sha256": sha256,
    }


def _splits(content: Manifest) -> dict[str, Any]:
    rows = [{"splits/name": name, "splits/n_structures": n} for name, n in content.splits.n_structures.items()]
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits; each structure's is in the array `split` of its shard: 0 train, 1 val, 2 test.",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/n_structures", "name": "n_structures", "dataType": "sc:Integer"},
        ],
        "data": rows,
    }
