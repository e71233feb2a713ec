"""The card of a label set: README.md with the front matter of a Hugging Face data set, every number from the manifest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from ..format.records import Manifest
from ..support.text import published
from ..support.typed import fields_of
from .licences import KNOWN, Licence, of_manifest, with_stated
from .statement import Permission, Publication

HUB_LICENSES = {  # by SPDX id: what the Hugging Face hub calls them
    **{name: name.lower() for name in KNOWN if name not in ("ODC-By-1.0", "PDDL-1.0", "0BSD", "ODbL-1.0")},
    "ODC-By-1.0": "odc-by",
    "PDDL-1.0": "pddl",
    "ODbL-1.0": "odbl",
    "unknown": "unknown",
}
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
LARGER = ((10**8, "10M<n<100M"), (10**9, "100M<n<1B"))
METHOD = (
    'I. Amin, S. Raja, A. S. Krishnapriyan, "Towards Fast, Specialized Machine Learning Force Fields: Distilling Foundation '
    'Models via Energy Hessians", ICLR 2025, arXiv:2501.09009'
)
PROBES = 'Rodriguez et al., "Projected Hessian Learning", 2026, arXiv:2603.04523'


def card(manifest: Manifest, stated: Publication, permission: Permission | None = None) -> bytes:
    """README.md of a label set."""
    licence = of_manifest(manifest, stated.stated_licenses)
    sections = [
        _front_matter(manifest, stated, licence),
        f"# {plain(title(manifest, stated))}",
        _what(manifest, stated),
        "## Contents\n\n" + _contents(manifest),
        "## Units and signs\n\n" + _units(manifest),
        "## Numerics\n\n" + _numerics(manifest),
        "## Use\n\n" + _use(),
        "## Licences\n\n" + _licences(manifest, stated, licence, permission),
        "## Citations\n\n" + _citations(manifest),
        "## Quarantine\n\n" + _quarantine(manifest),
        "_This card was made by hdistill from manifest.json; `hdistill labels card` makes it again._",
    ]
    return ("\n\n".join(sections) + "\n").encode()


def title(manifest: Manifest, stated: Publication) -> str:
    """What the publisher calls the set, else what it is."""
    what = "Energies and forces" if manifest.hessian.n_products == 0 else "Energies, forces and Hessian products"
    return stated.title or f"{what} of {teacher_name(manifest)} on {structure_names(manifest)}"


def teacher_name(manifest: Manifest) -> str:
    """The teacher as it is called; of a checkpoint the file's name, not where it lies on somebody's disk."""
    name = manifest.teacher.name
    return re.split(r"[/\\]", name)[-1] if name.endswith((".model", ".pt")) else name


def structure_names(manifest: Manifest) -> str:
    """The subsets or files that the structures came from."""
    return ", ".join(manifest.subset.names) or "unnamed structures"


def digest(manifest: Manifest) -> str:
    """Identifies the contents, as LabelSet.digest: sha256 over the shards' sha256, in order."""
    return hashlib.sha256("".join(shard.sha256 for shard in manifest.shards).encode()).hexdigest()


def tags(manifest: Manifest) -> list[str]:
    """Words by which the set is found."""
    always = ["chemistry", "materials", "interatomic-potentials", "distillation", "hdistill", "hdf5"]
    return always + (["hessian"] if manifest.hessian.n_products else []) + [_slug(teacher_name(manifest))]


def citations(manifest: Manifest) -> list[str]:
    """What to cite, besides hdistill: the teacher, the structures, the method."""
    stated = [text for text in (manifest.teacher.citation, *manifest.subset.citation) if text and text != "unknown"]
    known = list(dict.fromkeys(stated))
    return known + [METHOD] + ([PROBES] if manifest.hessian.kind == "probes" else [])


def plain(text: object) -> str:
    """A text from a manifest on one line of Markdown, with nothing in it that Markdown or HTML would act on."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", published(str(text)))


def _front_matter(manifest: Manifest, stated: Publication, licence: Licence) -> str:
    """YAML; texts are quoted as JSON, which YAML reads the same."""
    rows: list[tuple[str, object]] = [("license", HUB_LICENSES.get(licence.id, "other"))]
    if licence.id not in HUB_LICENSES:
        rows.append(("license_name", _slug(licence.id)))
    n = manifest.counts.n_structures
    rows += [
        ("pretty_name", published(title(manifest, stated))),
        ("tags", tags(manifest)),
        ("task_categories", ["graph-ml"]),
        ("size_categories", [next((name for limit, name in (*SIZES, *LARGER) if n < limit), "n>1B")]),
        ("viewer", False),  # the hub's viewer does not know the arrays of HDF5
    ]
    return "\n".join(["---", *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in rows), "---"])


def _what(manifest: Manifest, stated: Publication) -> str:
    teacher, hessian, subset = manifest.teacher, manifest.hessian, manifest.subset
    per = f"{hessian.per_structure} " if hessian.per_structure else ""
    products = {
        "none": "no Hessian products",
        "full": "the full Hessian of each structure",
        "rows": f"{per}random Hessian rows of each structure",
        "probes": f"{per}products of the Hessian with random ±1 vectors of each structure",
    }[hessian.kind]
    task = f", task {plain(teacher.task)}" if teacher.task else ""
    where = f", those with {plain(subset.where)}" if subset.where else ""
    by = f"By {plain(', '.join(stated.authors))}. " if stated.authors else ""
    home = f"Home: <{stated.url}>. " if stated.url else ""
    return (
        f"{by}{home}A label set for distilling a small, fast force field from a large one: energies, forces, stresses where there is "
        f"a volume, and {products}, as the teacher computes them.\n\n"
        + _table(
            ("", ""),
            [
                ("teacher", f"{plain(teacher_name(manifest))}{task}, {plain(teacher.dtype)}"),
                ("level of theory", plain(teacher.level_of_theory)),
                ("weights (sha256)", plain(teacher.weights_sha256 or "none")),
                ("forces", "-dE/dR" if teacher.conservative else "predicted directly, not a gradient"),
                ("packages", plain(", ".join(f"{k} {v}" for k, v in teacher.versions.items()) or "none")),
                ("structures from", plain(structure_names(manifest)) + where),
            ],
        )
    )


def _contents(manifest: Manifest) -> str:
    counts, splits = manifest.counts, manifest.splits
    n_bytes = sum(shard.bytes for shard in manifest.shards)
    elements = " ".join(f"{_symbol(int(z))} {n}" for z, n in counts.elements.items())
    rows = [
        ("structures", str(counts.n_structures)),
        ("atoms", str(counts.n_atoms)),
        ("groups (molecules or materials)", str(counts.n_groups)),
        ("Hessian products", str(manifest.hessian.n_products)),
        ("elements (structures that have them)", elements),
        *((f"split {name}", str(n)) for name, n in splits.n_structures.items()),
        ("split by", plain(f"{splits.by}, fractions {splits.fractions or '?'}")),
        ("in quarantine", str(counts.n_quarantined)),
        ("shards", f"{len(manifest.shards)}, {n_bytes} bytes"),
        ("digest of the shards", digest(manifest)),
    ]
    if manifest.history is not None:
        parents = ", ".join(parent.digest[:12] for parent in manifest.history.parents)
        rows.append(("made by", plain((manifest.history.made_by or "?") + (f" of {parents}" if parents else ""))))
    computed = manifest.hessian.n_computed
    if computed is not None and computed != manifest.hessian.n_products:
        rows.append(("products computed (the others by symmetry)", str(computed)))
    return _table(("", ""), rows) + (
        "\n\n`manifest.json` names every file with its size and sha256. The shards are HDF5 with built-in filters; each array in "
        "them states its unit and meaning."
    )


def _units(manifest: Manifest) -> str:
    rows = [(plain(name), plain(unit)) for name, unit in manifest.units.items()]
    return _table(("quantity", "unit"), rows) + f"\n\n{plain(manifest.sign)}."


def _numerics(manifest: Manifest) -> str:
    hessian, check = manifest.hessian, manifest.preflight
    sentences = []
    if hessian.n_products:
        sentences.append(
            f"Hessian products are stored with the codec `{plain(hessian.codec)}`: {hessian.bytes_per_element:.3g} bytes per "
            f"element, at a relative error (L2, of each product) of {hessian.codec_error_mean:.2g} in the mean and "
            f"{hessian.codec_error_max:.2g} at most."
        )
    product, force, run = (
        check.product_difference_error,
        check.force_difference_error,
        check.product_run_precision_error,
    )
    agreed = []
    if product is not None:
        agreed.append(f"its Hessian product agreed with central differences of its forces to {product:.2g}")
    if force is not None and manifest.teacher.conservative:
        agreed.append(f"its forces with differences of its energy to {force:.2g}")
    if run is not None:
        agreed.append(f"the product in the run's precision with that to {run:.2g}")
    if check.roughness is not None:
        agreed.append(f"it changed by {check.roughness:.2g} where atoms moved by 0.001 A")
    if agreed:
        sentences.append(
            f"Before the run the teacher was checked in {plain(check.dtype)} on one structure (relative): "
            f"{'; '.join(agreed)}."
        )
    else:
        sentences.append("No check of the teacher's derivatives before the run is recorded.")
    return "\n\n".join(sentences)


def _use() -> str:
    return """With hdistill installed; ADDRESS is where you found this: `hf://datasets/OWNER/NAME`, `s3://...`, `https://...` or a folder.

```
hdistill labels pull ADDRESS labels/     # every hash is checked
hdistill labels verify labels/           # every byte, every rule of the format, every structure's id
hdistill fit labels/ -o run/             # or, without a copy of your own: hdistill fit ADDRESS -o run/
```"""


def _licences(manifest: Manifest, stated: Publication, licence: Licence, permission: Permission | None) -> str:
    known = fields_of(manifest.licenses)
    used = with_stated(known, stated.stated_licenses)

    def of(name: str) -> str:
        return plain(used[name]) + (" (stated by the publisher)" if used[name] != known[name] else "")

    rows = [
        ("the structures", of("structures")),
        ("the teacher's weights", f"{of('weights')}, {used['weights_class']}"),
        ("the code that made the labels", plain(manifest.licenses.code)),
        ("**these labels**", f"**{plain(licence.id)}**, {licence.license_class}"),
    ]
    text = _table(("of", "licence"), rows) + f"\n\nThe labels inherit the stricter one: {plain(licence.why)}."
    if permission is not None:
        text += (
            f"\n\n{plain(permission.by)} stated on {plain(permission.on)} to have permission to share these labels "
            f"(class {plain(permission.license_class)})."
        )
    return text


def _citations(manifest: Manifest) -> str:
    return "\n".join(f"- {plain(citation)}" for citation in citations(manifest))


def _quarantine(manifest: Manifest) -> str:
    reasons: dict[str, int] = {}
    for row in manifest.quarantine:
        reasons[row.reason] = reasons.get(row.reason, 0) + 1
    if not reasons:
        return "Every structure that was to be labelled is here."
    listed, n = len(manifest.quarantine), manifest.counts.n_quarantined
    named = "the manifest names each" if listed == n else f"the manifest names the first {listed}, counted here"
    return f"{n} structures could not be labelled and are not here; {named}.\n\n" + _table(
        ("reason", "structures"), [(plain(name), str(n)) for name, n in sorted(reasons.items())]
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
