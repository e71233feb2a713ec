"""Small students with random weights, for `student:RUN`. Run by hdistill's own interpreter:

    python tests/labeler/checkpoints/outside.py OUTPUT_DIR

    OUTPUT_DIR/student/    a run folder with a conservative PaiNN
    OUTPUT_DIR/direct/     the same with direct forces

The scale gives curvature of the size of real ones; reference energies are those of free atoms.
"""

from __future__ import annotations

import sys
from pathlib import Path

ELEMENTS = {1: -13.6, 6: -1029.3, 8: -2042.0, 12: -200.1, 22: -1580.6, 38: -867.2}  # eV
SCALE = 20.0  # eV
LICENSES = {"structures": "CC0-1.0", "weights": "GPL-3.0", "weights_class": "copyleft", "code": "MIT"}
TEACHER = {"name": "7net-0", "level_of_theory": "PBE", "citation": "Y. Park et al. (2024)"}


def main(folder: Path) -> None:
    from hdistill.trainer.fitting.settings import FitSettings
    from hdistill.trainer.force_field.checkpoint import StudentCard, save_student
    from hdistill.trainer.inputs.references import References
    from hdistill.trainer.students.build import build
    from hdistill.trainer.students.registry import size_of

    references = References(tuple(ELEMENTS), tuple(ELEMENTS.values()))
    for name, student in (("student", "painn-small"), ("direct", "painn-small-direct")):
        settings = FitSettings(student=student)
        card = StudentCard(
            student=student,
            size=size_of(student),
            references=references,
            scale=SCALE,
            settings=settings.as_json(),
            label_set="",
            teacher=TEACHER,
            licenses=LICENSES,
            step=0,
            validation={},
        )
        (folder / name).mkdir(parents=True)
        save_student(folder / name, card, build(card.size, references.elements, SCALE, seed=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
