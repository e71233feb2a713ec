"""A student to publish: weights, what is known of it, and checksums. Nothing in a bundle is run: machine code is built anew from the
weights on the machine that uses it.

student.safetensors  domain.safetensors   as in a run folder (the second where the run has one)
student.json                              the student's card as JSON, for other programs
README.md                                 the same for people
bundle.json                               format, version, and the sha256 of every other file
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from hdistill.data.errors import InputError
from hdistill.data.publication.licences import of_licenses
from hdistill.data.support.publish import publish, sha256_of
from hdistill.data.support.strict_json import loads

from ..checkpoint import STUDENT, StudentCard, load_student
from ..domain import DOMAIN, load_domain

BUNDLE = "bundle.json"
FORMAT, VERSION = "hdistill bundle", 1


@dataclass(frozen=True)
class Bundle:
    """A folder that was written, its files, and the licence that the student inherits."""

    folder: Path
    files: tuple[str, ...]
    license: str


def export_bundle(run: Path | str, folder: Path | str) -> Bundle:
    """Publish the student of a run folder or file in a new folder. Raises InputError: no student, or the folder holds something."""
    run, folder = Path(run), Path(folder)
    trained = load_student(run)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is in use; give another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    student = run / STUDENT if run.is_dir() else run
    shutil.copyfile(student, folder / STUDENT)
    if load_domain(run) is not None:
        shutil.copyfile(student.with_name(DOMAIN), folder / DOMAIN)
    licence = of_licenses(trained.card.licenses or {})
    n_parameters = sum(p.numel() for p in trained.model.parameters())
    facts = _facts(trained.card, n_parameters, licence.id)
    publish(folder / "student.json", (json.dumps(facts, indent=1, default=str) + "\n").encode(), replace=True)
    publish(folder / "README.md", _readme(facts).encode(), replace=True)
    files = sorted(path.name for path in folder.iterdir() if path.name != BUNDLE)
    index = {"format": FORMAT, "version": VERSION, "files": {name: sha256_of(folder / name) for name in files}}
    publish(folder / BUNDLE, (json.dumps(index, indent=1) + "\n").encode(), replace=True)  # last: now it is whole
    return Bundle(folder, (*files, BUNDLE), licence.id)


def require_whole_bundle(folder: Path) -> None:
    """Where a folder is a bundle, its files must be those that were published. Raises InputError that names the first that is not."""
    if not (folder / BUNDLE).exists():
        return
    try:
        index = loads((folder / BUNDLE).read_bytes())
        files: dict[str, str] = dict(index["files"])
        known = index["format"] == FORMAT and index["version"] == VERSION
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{folder / BUNDLE} is damaged ({error}); fetch the bundle again.") from error
    if not known:
        raise InputError(f"{folder} is not a {FORMAT} of version {VERSION}.")
    if STUDENT not in files:
        raise InputError(f"{folder / BUNDLE} does not list {STUDENT}; fetch the bundle again.")
    if (folder / DOMAIN).exists() and DOMAIN not in files:
        raise InputError(f"{folder / DOMAIN} is not a file of this bundle; remove it.")
    for name, sha256 in files.items():
        if Path(name).name != name or not (folder / name).is_file() or sha256_of(folder / name) != sha256:
            raise InputError(f"{name!r:.80} in {folder} is missing or not what was published; fetch the bundle again.")


def _facts(card: StudentCard, n_parameters: int, licence: str) -> dict[str, Any]:
    teacher = card.teacher
    return {
        "student": card.student,
        "n_parameters": n_parameters,
        "size": card.size.as_json(),
        "elements": [chemical_symbols[z] for z in card.references.elements],
        "reference_energies_ev": dict(
            zip([chemical_symbols[z] for z in card.references.elements], card.references.energies, strict=True)
        ),
        "teacher": dict(teacher),
        "license": licence,
        "licenses": card.licenses,
        "label_set": card.label_set,
        "validation": dict(card.validation),
        "recipe": dict(card.settings),
        "steps": card.step,
    }


def _readme(facts: dict[str, Any]) -> str:
    teacher = facts["teacher"]
    size = facts["size"]
    validation = "\n".join(
        f"| {name} | {value:.4g} |" for name, value in facts["validation"].items() if isinstance(value, int | float)
    )
    forces = "predicted directly: energy is not conserved" if size["direct"] else "the gradient of its energy"
    return f"""# A small force field: {facts["student"]} for {" ".join(facts["elements"])}

| | |
|---|---|
| elements | {" ".join(facts["elements"])}; others are refused |
| parameters | {facts["n_parameters"]} |
| cutoff | {size["cutoff"]} A |
| forces | {forces} |
| short-range repulsion | {"yes" if size["repulsion"] else "no"} |
| distilled from | {teacher.get("name", "unknown")}, {teacher.get("level_of_theory", "unknown")} |
| label set | digest {facts["label_set"] or "unknown"} |
| licence | {facts["license"]} (the stricter of the labels' structures and the teacher's weights) |

It is for what is like its label set: same elements, compositions, temperatures and pressures. `domain_distance` of the calculator
says how far each atom's surroundings are from there. Errors on held-out structures of that set:

| | |
|---|---|
{validation}

```python
import hdistill

atoms.calc = hdistill.HDistillCalculator("THIS FOLDER")
```

or `hdistill md THIS_FOLDER start.xyz -o md/`. `bundle.json` has the sha256 of every file. Nothing here is run: machine code is built
from the weights where the student is used.

Cite the teacher: {teacher.get("citation", "unknown")}
"""
