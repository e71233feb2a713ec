"""hdistill: distil a foundation model for atoms into a small, fast force field.

    import hdistill

    labels = hdistill.label("my.xyz", "labels/", teacher="7net-0")  # files, subsets by name, or ASE Atoms
    run = hdistill.fit(labels, "run/", student="painn-small", steps=5000)
    print(hdistill.evaluate(run, labels))
    atoms.calc = hdistill.HDistillCalculator(run)

Each command of the command line is a function here, with the same names for the same options. Everything is imported when it
is first asked for, so that `import hdistill` costs next to nothing. docs/python.md has examples.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; a test compares it with _MODULES
    from hdistill.data.errors import HDistillError as HDistillError
    from hdistill.data.labelsets.label_set import LabelSet as LabelSet
    from hdistill.data.structure import Structure as Structure
    from hdistill.labeler.teacher_calculator import TeacherCalculator as TeacherCalculator
    from hdistill.pipelines.api.bundles import pull_bundle as pull_bundle, push_bundle as push_bundle
    from hdistill.pipelines.api.distilling import distill as distill
    from hdistill.pipelines.api.doctor import doctor as doctor
    from hdistill.pipelines.api.engines import export as export
    from hdistill.pipelines.api.evaluation import evaluate as evaluate, frequencies as frequencies
    from hdistill.pipelines.api.fitting import fit as fit, load_student as load_student, resume as resume
    from hdistill.pipelines.api.label_sets import (
        audit as audit,
        card as card,
        export_labels as export_labels,
        import_labels as import_labels,
        info as info,
        merge as merge,
        open_labels as open_labels,
        pull as pull,
        push as push,
        quarantine as quarantine,
        samples as samples,
        subset as subset,
        verify as verify,
    )
    from hdistill.pipelines.api.labelling import (
        estimate as estimate,
        label as label,
        label_share as label_share,
    )
    from hdistill.pipelines.api.listings import (
        install_teacher as install_teacher,
        students as students,
        subsets as subsets,
        teachers as teachers,
    )
    from hdistill.pipelines.api.sampling import sample as sample
    from hdistill.pipelines.api.simulation import demo as demo, md as md
    from hdistill.trainer.force_field.calculator import HDistillCalculator as HDistillCalculator

    __version__: str

_MODULES = {
    "hdistill.data.errors": ("HDistillError",),
    "hdistill.data.labelsets.label_set": ("LabelSet",),
    "hdistill.data.structure": ("Structure",),
    "hdistill.labeler.teacher_calculator": ("TeacherCalculator",),
    "hdistill.pipelines.api.bundles": ("pull_bundle", "push_bundle"),
    "hdistill.pipelines.api.distilling": ("distill",),
    "hdistill.pipelines.api.doctor": ("doctor",),
    "hdistill.pipelines.api.engines": ("export",),
    "hdistill.pipelines.api.evaluation": ("evaluate", "frequencies"),
    "hdistill.pipelines.api.fitting": ("fit", "load_student", "resume"),
    "hdistill.pipelines.api.label_sets": (
        *("audit", "card", "export_labels", "import_labels", "info", "merge", "open_labels", "pull", "push"),
        *("quarantine", "samples", "subset", "verify"),
    ),
    "hdistill.pipelines.api.labelling": ("estimate", "label", "label_share"),
    "hdistill.pipelines.api.listings": ("install_teacher", "students", "subsets", "teachers"),
    "hdistill.pipelines.api.sampling": ("sample",),
    "hdistill.pipelines.api.simulation": ("demo", "md"),
    "hdistill.trainer.force_field.calculator": ("HDistillCalculator",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = ["__version__", *_MODULE_OF]  # noqa: PLE0604  strings, all of them


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("hdistill")
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module 'hdistill' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
