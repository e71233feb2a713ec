"""Label sets for tests of what comes after labelling: without a cluster, which costs more than the labels."""

from __future__ import annotations

from pathlib import Path

from hdistill.labeler.planning.plan import LabelSettings
from hdistill.labeler.run import RunSettings, label, label_share

QUIET = RunSettings(workers=1, progress=False)


def label_quickly(settings: LabelSettings, out: Path) -> Path:
    """label(), by one worker and no scheduler; returns the folder."""
    label_share(settings, out, (1, 1), run=QUIET, say=lambda _: None)
    return label(settings, out, run=QUIET, say=lambda _: None).path
