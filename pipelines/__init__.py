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
    "LabelSettings": ("hdistill.labeler.plan", "LabelSettings"),
    "RunSettings": ("hdistill.labeler.run", "RunSettings"),
    "predict": ("hdistill.labeler.dry_run", "predict"),
    "cluster_example": ("hdistill.labeler.jobs", "example"),
    "cluster_script": ("hdistill.labeler.jobs", "job_script"),
    "read_cluster": ("hdistill.labeler.jobs", "read"),
    "install": ("hdistill.labeler.environments", "install"),
    "info": ("hdistill.data.labelset", "info"),
    "verify": ("hdistill.data.labelset", "verify"),
    "add": ("hdistill.labeler.extend", "add"),
    "extend": ("hdistill.labeler.extend", "extend"),
    "audit": ("hdistill.labeler.audit", "audit"),
    "AuditSettings": ("hdistill.labeler.audit", "AuditSettings"),
    "merge": ("hdistill.data.merge", "merge"),
    "part": ("hdistill.data.part", "part"),
    "export": ("hdistill.data.export", "export"),
    "import_file": ("hdistill.data.importing", "import_file"),
    "ImportSettings": ("hdistill.data.importing", "ImportSettings"),
    "card": ("hdistill.data.publication", "state"),
    "documents": ("hdistill.data.publication", "documents"),
    "push": ("hdistill.data.remote", "push"),
    "pull": ("hdistill.data.remote", "pull"),
    "open_labels": ("hdistill.data.remote", "open_labels"),
    "ShardCache": ("hdistill.data.cache", "ShardCache"),
    "fit": ("hdistill.trainer.fit", "fit"),
    "resume": ("hdistill.trainer.fit", "resume"),
    "FitSettings": ("hdistill.trainer.settings", "FitSettings"),
    "students": ("hdistill.trainer.students.sizes", "catalogue"),
    "evaluate": ("hdistill.trainer.evaluate", "evaluate_student"),
    "run_md": ("hdistill.pipelines.md", "run_md"),
    "Motion": ("hdistill.trainer.dynamics", "Motion"),
    "run_demo": ("hdistill.pipelines.demo", "run_demo"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(_WHERE)
