"""Teachers that installed packages offer by an entry point of the group `hdistill.teachers`; our own students are one of them.

    [project.entry-points."hdistill.teachers"]
    mine = "my_package.for_hdistill:load"        # hdistill label --teacher outside:mine:MODEL

The entry point names a function load(model, dtype, device) that returns an Offered: it needs no class of the labeler, and the
labeler none of the package, which is imported here, in the teacher's process, and nowhere else. So a student can be a teacher
(`student:RUN`) although labeler and trainer never import each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hdistill.data.errors import HDistillError, TeacherError, nearest
from hdistill.data.structure import Directions, Labels, Structure

from .about import describe
from .contract import Evaluation, TeacherRequest, check_elements, check_no_task, check_signals, label_by_autograd

if TYPE_CHECKING:
    import torch

GROUP = "hdistill.teachers"
SIGNALS = ("atom_energies", "node_features")


class Offered(Protocol):
    """One loaded model. Raises an HDistillError for what it refuses.

    about: `elements` (atomic numbers), and where they apply `weights` (files), `packages` (distributions that decide the
    numbers), `signals` (those of SIGNALS that it gives), and the fields of TeacherInfo that it knows better than "unknown":
    `conservative`, `has_stress`, `weights_license`, `license_class`, `level_of_theory`, `citation`.
    """

    about: Mapping[str, Any]

    def evaluate(self, structures: Sequence[Structure]) -> Mapping[str, torch.Tensor]:
        """The fields of contract.Evaluation by name: energy, forces with their graph, positions; the rest where it is given."""
        ...


class Outside:
    def __init__(self, request: TeacherRequest):
        check_no_task(request)
        name, _, model = request.model.partition(":")
        entry = _entry_point(name)
        self.request = request
        self.offered = _loaded(entry, model, request)
        about = self.offered.about
        signals = set(about.get("signals", ()))
        self.request = check_signals(request, **{name: name in signals for name in SIGNALS})
        package = [entry.dist.name] if entry.dist is not None else []
        info = describe(
            request,
            about["elements"],
            ["torch", *package, *about.get("packages", ())],
            [Path(path) for path in about.get("weights", ())],
            conservative=about.get("conservative", True),
            has_stress=about.get("has_stress", True),
        )
        stated = ("weights_license", "license_class", "level_of_theory", "citation")
        self.info = replace(info, **{name: about[name] for name in stated if name in about})

    def label(self, structures: Sequence[Structure], directions: Sequence[Directions | None]) -> list[Labels]:
        check_elements(structures, self.info.elements, self.info.name)
        answer = dict(self.offered.evaluate(structures))
        for signal in SIGNALS:
            if not getattr(self.request, signal):
                answer.pop(signal, None)
        wanted = {field.name for field in fields(Evaluation)}
        if not {"energy", "forces", "positions"} <= answer.keys() <= wanted:
            raise TeacherError(f"{self.info.name} answers with {', '.join(answer)}; an answer has {', '.join(wanted)}.")
        return label_by_autograd(Evaluation(**answer), structures, directions)


def _entry_point(name: str) -> metadata.EntryPoint:
    """Raises TeacherError where no package of this interpreter offers such a teacher, or more than one does."""
    offers = metadata.entry_points(group=GROUP)
    named = [offer for offer in offers if offer.name == name]
    if not named:
        known = ", ".join(sorted(offers.names)) or "none"
        raise TeacherError(
            f"No package installed here offers a teacher '{name}'.{nearest(name, offers.names)} Offered: {known}; install the "
            "package that has it (hdistill itself for 'student'), or name an interpreter that has it with --teacher-python."
        )
    if len({offer.value for offer in named}) > 1:
        raise TeacherError(
            f"Several packages offer a teacher '{name}' ({', '.join(offer.value for offer in named)}); uninstall all but one."
        )
    return named[0]


def _loaded(entry: metadata.EntryPoint, model: str, request: TeacherRequest) -> Offered:
    """Raises TeacherError where the package cannot be imported; what it says itself passes."""
    try:
        offered: Offered = entry.load()(model, request.dtype, request.device)
        _ = offered.about["elements"]
        return offered
    except HDistillError:
        raise
    except Exception as error:
        raise TeacherError(
            f"The teacher '{entry.name}' of {entry.value} could not be loaded: {type(error).__name__}: {error}"
        ) from error


load = Outside
