"""Students in the form that an engine loads."""

from __future__ import annotations

from .arguments import Labels, Place, folder_of, labels_place, run_place
from .printed import Figures


def export(
    run: Place,
    out: Place,
    *,
    to: str = "pt2",
    labels: Labels | None = None,
    dtype: str | None = None,
    device: str = "cpu",
    report: Place | None = None,
    text: Place | None = None,
    licence: str | None = None,
) -> Figures:
    """Write a run's student for an engine as `out`, once its numbers agree with those of the student that was trained.

    labels: compare on structures of this label set, too. report: the folder of a report that goes into a bundle; None: that of `distill`
    beside the run, where there is one; text: a file of Markdown for its card; licence: SPDX id of the structures, where
    their label set does not know it.
    Figures: path, dtype, the largest differences and seconds. Raises
    InputError for what cannot be read, NotExported where the numbers differ.
    """
    from hdistill.trainer.bundles import place_of

    from ..export import export_student, export_text

    place = None if labels is None else labels_place(labels)
    of_it = None if report is None else folder_of(report)
    words = None if text is None else folder_of(text)
    return Figures(
        export_student(place_of(run_place(run)), to, folder_of(out), place, dtype, device, of_it, words, licence),
        export_text,
    )
