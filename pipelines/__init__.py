"""The commands over all of it; each is also a plain Python function, importable from here.

from hdistill.pipelines import FitSettings, LabelSettings, evaluate, fit, label

labels = label(LabelSettings("7net-0", ("my.xyz",)), Path("labels"))
run = fit(labels.path, Path("run"), FitSettings(steps=5000))
errors = evaluate(run.run, labels.path, "test")
"""

from __future__ import annotations

import importlib
from typing import Any

# Imported when they are first asked for: the command line starts without torch, h5py or dask.
_WHERE = {
    "label": ("hdistill.labeler.run", "label"),
    "LabelSettings": ("hdistill.labeler.planning.plan", "LabelSettings"),
    "RunSettings": ("hdistill.labeler.run", "RunSettings"),
    "predict": ("hdistill.labeler.estimate", "predict"),
    "cluster_example": ("hdistill.labeler.executors.jobs", "example"),
    "cluster_script": ("hdistill.labeler.executors.jobs", "job_script"),
    "read_cluster": ("hdistill.labeler.executors.jobs", "read"),
    "install": ("hdistill.labeler.teachers.environments", "install"),
    "info": ("hdistill.data.labelsets.label_set", "info"),
    "verify": ("hdistill.data.labelsets.label_set", "verify"),
    "add": ("hdistill.labeler.extend", "add"),
    "extend": ("hdistill.labeler.extend", "extend"),
    "audit": ("hdistill.labeler.audit", "audit"),
    "AuditSettings": ("hdistill.labeler.audit", "AuditSettings"),
    "merge": ("hdistill.data.convert.merge", "merge"),
    "cut": ("hdistill.data.convert.cut", "cut"),
    "export": ("hdistill.data.convert.exporting", "export"),
    "import_file": ("hdistill.data.convert.importing", "import_file"),
    "ImportSettings": ("hdistill.data.convert.importing", "ImportSettings"),
    "card": ("hdistill.data.publication.documents", "state"),
    "documents": ("hdistill.data.publication.documents", "documents"),
    "push": ("hdistill.data.sharing.push_pull", "push"),
    "pull": ("hdistill.data.sharing.push_pull", "pull"),
    "open_labels": ("hdistill.data.sharing.push_pull", "open_labels"),
    "ShardCache": ("hdistill.data.sharing.cache", "ShardCache"),
    "fit": ("hdistill.trainer.fitting.fit", "fit"),
    "resume": ("hdistill.trainer.fitting.fit", "resume"),
    "FitSettings": ("hdistill.trainer.fitting.settings", "FitSettings"),
    "students": ("hdistill.trainer.students.registry", "catalogue"),
    "evaluate": ("hdistill.trainer.evaluation.errors", "evaluate_student"),
    "export_student": ("hdistill.pipelines.export", "export_student"),
    "run_md": ("hdistill.pipelines.md", "run_md"),
    "Motion": ("hdistill.trainer.evaluation.dynamics", "Motion"),
    "run_demo": ("hdistill.pipelines.demo", "run_demo"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(_WHERE)
