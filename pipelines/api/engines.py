"""Students in the form that an engine loads."""

from __future__ import annotations

from .arguments import Labels, Place, folder_of, labels_place
from .printed import Figures


def export(
    run: Place,
    out: Place,
    *,
    to: str = "pt2",
    labels: Labels | None = None,
    dtype: str | None = None,
    device: str = "cpu",
) -> Figures:
    """Write a run's student for an engine as `out`, once its numbers agree with those of the student that was trained.

    labels: compare on structures of this label set, too. Figures: path, dtype, the largest differences and seconds. Raises
    InputError for what cannot be read, NotExported where the numbers differ.
    """
    from ..export import export_student, export_text

    place = None if labels is None else labels_place(labels)
    return Figures(export_student(folder_of(run), to, folder_of(out), place, dtype, device), export_text)
