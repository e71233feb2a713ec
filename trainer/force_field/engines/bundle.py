"""A student to publish: weights, what is known of it, and checksums. Nothing in a bundle is run: machine code is built anew from the
weights on the machine that uses it.

student.safetensors  domain.safetensors   as in a run folder (the second where the run has one)
student.json                              the student's card as JSON, for other programs
README.md                                 the same for people
report.html                               its verdict, where `hdistill evaluate -o` or `distill` made one
bundle.json                               format, version, and the sha256 of every other file
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from hdistill.data.errors import InputError
from hdistill.data.publication.card import HUB_LICENSES
from hdistill.data.publication.licences import UNKNOWN, of_licenses, require_known, with_stated
from hdistill.data.support.publish import publish, sha256_of
from hdistill.data.support.strict_json import loads

from ...bundles.index import BUNDLE, write_index
from ..checkpoint import STUDENT, StudentCard, load_student
from ..domain import DOMAIN, load_domain

REPORT = "report.html"


@dataclass(frozen=True)
class Bundle:
    """A folder that was written, its files, and the licence that the student inherits."""

    folder: Path
    files: tuple[str, ...]
    license: str


def export_bundle(
    run: Path | str, folder: Path | str, report: Path | None = None, text: str = "", licence: str | None = None
) -> Bundle:
    """Publish the student of a run folder or file in a new folder; report: the folder of a report of it, whose page goes with it; text:
    Markdown for its card, what it is for and what it is not for; licence: of the structures, where its label set does not know it.

    Raises InputError: no student, the folder holds something, the report is none or is of another student.
    """
    run, folder = Path(run), Path(folder)
    trained = load_student(run)
    student = run / STUDENT if run.is_dir() else run
    verdict = None if report is None else report_of(report, student)
    licenses = _licenses(trained.card.licenses or {}, licence)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is in use; give another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(student, folder / STUDENT)
    if load_domain(run) is not None:
        shutil.copyfile(student.with_name(DOMAIN), folder / DOMAIN)
    inherits = of_licenses(licenses)
    n_parameters = sum(p.numel() for p in trained.model.parameters())
    facts = _facts(trained.card, n_parameters, inherits.id) | {"licenses": licenses}
    facts["verdicts"] = [] if verdict is None else verdict.get("verdicts", [])
    publish(folder / "student.json", (json.dumps(facts, indent=1, default=str) + "\n").encode(), replace=True)
    if report is not None:
        shutil.copyfile(report / REPORT, folder / REPORT)
    publish(folder / "README.md", _readme(facts, verdict, text).encode(), replace=True)
    files = sorted(path.name for path in folder.iterdir() if path.name != BUNDLE)
    write_index(folder, files)  # last: now it is whole
    return Bundle(folder, (*files, BUNDLE), inherits.id)


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


def _licenses(known: Mapping[str, Any], stated: str | None) -> dict[str, Any]:
    """Those of the card, with the publisher's word on the structures where nobody has said. Raises InputError where somebody has."""
    if stated is None:
        return dict(known)
    word = {"structures": require_known(stated)}
    if (before := known.get("structures", UNKNOWN)) not in (UNKNOWN, word["structures"]):
        raise InputError(
            f"--licence was {stated}, and the label set says that its structures are under {before}; leave it out."
        )
    joint = of_licenses(known, word)
    return {
        **known,
        **with_stated(known, word),
        **{"labels": joint.id, "labels_class": joint.license_class, "labels_why": joint.why},
    }


def report_of(folder: Path, student: Path) -> dict[str, Any]:
    """What a report says of a student's file. Raises InputError where there is no report, or it is of another student."""
    try:
        content = loads((folder / "report.json").read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} has no report.json of `hdistill evaluate -o`: {error}.") from error
    is_whole = (folder / REPORT).is_file()
    if not isinstance(content, dict) or content.get("format") != "hdistill report" or not is_whole:
        raise InputError(f"{folder} is not a report of `hdistill evaluate -o`.")
    if content.get("student_sha256") != sha256_of(student):
        raise InputError(
            f"The report in {folder} is of another student than {student}; make it anew: hdistill evaluate RUN -o report/"
        )
    return content


def _verdict(content: dict[str, Any] | None) -> str:
    """Sections of the card: what was required and measured, and the conditions that the student saw."""
    if content is None:
        return ""
    lines = ["", "Verdict (report.html has all of it):", "", "| figure | measured | required | |", "|---|---|---|---|"]
    for row in content.get("verdicts", []):
        measured = "not measured" if row["measured"] is None else f"{row['measured']:.4g}"
        lines.append(
            f"| {row['figure']} | {measured} | {row['required']} | {'passed' if row['passed'] else 'FAILED'} |"
        )
    if not content.get("verdicts"):
        lines = ["", "report.html says how good it is."]
    conditions = content.get("distill", {}).get("conditions")
    if conditions:
        kelvins = ", ".join(f"{t:g}" for t in conditions["temperatures"])
        pressures = ", ".join(f"{p:g}" for p in conditions["pressures"]) or "none besides constant volume"
        lines += [
            "",
            f"Its dynamics were put to the test at {kelvins} K; pressures (GPa): {pressures}; {conditions['start']}.",
        ]
    return "\n".join(lines) + "\n"


def _front_matter(facts: dict[str, Any]) -> str:
    """YAML for the Hugging Face hub; texts are quoted as JSON, which YAML reads the same."""
    licence, elements = facts["license"], " ".join(facts["elements"])
    rows: dict[str, Any] = {"license": HUB_LICENSES.get(licence, "other")}
    if licence not in HUB_LICENSES:
        rows["license_name"] = licence
    rows |= {"library_name": "hdistill", "pretty_name": f"{facts['student']} for {elements}"}
    rows["tags"] = ["chemistry", "materials", "interatomic-potentials", "distillation", "hdistill"]
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in rows.items()), "---", ""])


def _readme(facts: dict[str, Any], verdict: dict[str, Any] | None, text: str) -> str:
    teacher = facts["teacher"]
    size = facts["size"]
    validation = "\n".join(
        f"| {name} | {value:.4g} |" for name, value in facts["validation"].items() if isinstance(value, int | float)
    )
    forces = "predicted directly: energy is not conserved" if size["direct"] else "the gradient of its energy"
    return f"""{_front_matter(facts)}
# A small force field: {facts["student"]} for {" ".join(facts["elements"])}

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

{text.strip() + chr(10) if text.strip() else ""}
It is for what is like its label set: same elements, compositions, temperatures and pressures. `domain_distance` of the calculator
says how far each atom's surroundings are from there. Errors on held-out structures of that set:

| | |
|---|---|
{validation}
{_verdict(verdict)}
```python
import hdistill

atoms.calc = hdistill.HDistillCalculator("THIS FOLDER")
```

or `hdistill md THIS_FOLDER start.xyz -o md/`. `bundle.json` has the sha256 of every file. Nothing here is run: machine code is built
from the weights where the student is used.

Cite the teacher: {teacher.get("citation", "unknown")}
"""
