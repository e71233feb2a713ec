"""Published energies, forces and full Hessians as a label set: rows, probes or all of each Hessian, checked on the way in.

What is read is in hessians/, one file a format. Units are the file's statement or the user's, never
guessed for labels; where both speak, both must say the same. HORM (Cui et al., arXiv 2505.12447) and others publish pickled
objects in LMDB: they run code when they are opened, so they are converted by who made or trusts them.

Of each Hessian are checked: shape, finite numbers, symmetry, that a translation changes no force, and the sign: one with a
negative trace is -d2E/dR2 or no Hessian.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError, LabelSetError
from ..format.codec import Codec
from ..format.records import Manifest
from ..format.shard import Sample, codec_errors, to_arrays
from ..labelsets.split import assign, parse_fractions
from ..labelsets.writer import Block, require_free, sweep, write
from ..probes import HessianSpec, draw, parse_spec
from ..publication import licences
from ..structure import HessianProducts, Labels
from .hessians.checks import USUAL_STIFFEST
from .import_facts import facts_of
from .survey import ImportSettings, Labelled, Survey, labelled, option_units, survey_of

__all__ = ["ImportSettings", "import_file"]

AT_ONCE = 128
Say = Callable[[str], None]


def import_file(file: Path, out: Path, settings: ImportSettings, say: Say = print) -> Manifest:
    """Write the structures of a file with their Hessians as a label set into `out`; returns its manifest.

    Structures that fail a check are in its quarantine. The file is read twice. Raises InputError: no such file, an unknown
    layout, units that nobody states, a sign that is wrong for most, nothing that is good; LabelSetError for an `out` that is taken.
    """
    spec = parse_spec(settings.hessian)
    fractions = parse_fractions(settings.splits)
    if spec.kind == "none" or spec.first:
        raise InputError(f"--hessian was {spec}; an import takes probes:K, rows:K or full.")
    option_units(settings)
    if not file.exists():
        raise InputError(f"There is no file {file}.")
    require_free(out)
    licence = settings.licence if settings.licence == licences.UNKNOWN else licences.require_known(settings.licence)
    survey = survey_of(file, settings)
    for line in survey.report.lines() if survey.ids else ():
        say(line)
    _require_sane(file, survey, say)
    assignment = assign(survey.groups, survey.ids, settings.seed, fractions)
    for line in assignment.warnings:
        say(line)
    splits = dict(zip(survey.ids, assignment.splits, strict=True))
    facts = facts_of(file, replace(settings, licence=licence), survey, spec, assignment.unit)
    manifest = write(out, _blocks(file, settings, spec, splits), facts)
    sweep(out, manifest)
    return manifest


def _require_sane(file: Path, survey: Survey, say: Say) -> None:
    if survey.n_read == 0:
        raise InputError(f"{file} has no structure.")
    if 2 * survey.n_negative > survey.n_read:
        raise InputError(
            f"{survey.n_negative} of {survey.n_read} Hessians in {file} have a negative trace: their sign is that of dF/dR and not "
            "of +d2E/dR2, which has a positive trace near any minimum. Say --negate, if that is what they are."
        )
    if not survey.ids:
        raise InputError(f"No structure of {file} is good; the first: {_sentence(survey.quarantine[0].text)}")
    if survey.quarantine:
        first = survey.quarantine[0].text
        say(f"{len(survey.quarantine)} of {survey.n_read} structures are in quarantine; the first: {first}.")
    typical = float(np.median(survey.stiffest))
    if not USUAL_STIFFEST[0] < typical < USUAL_STIFFEST[1]:
        say(
            f"The stiffest coordinates have {typical:.3g} eV/A^2, where molecules have 10 to 100; "
            "are the units right? (1 hartree/bohr^2 is 97 eV/A^2)"
        )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _blocks(file: Path, settings: ImportSettings, spec: HessianSpec, splits: Mapping[str, str]) -> Iterator[Block]:
    left = dict(splits)
    block: list[Sample] = []
    for item in labelled(file, settings, Survey()):
        if item.structure.id not in left or item.problem is not None:  # in quarantine, or a duplicate
            continue
        split = left.pop(item.structure.id)
        block.append(_sample(item, spec, settings.seed, split))
        if len(block) == AT_ONCE:
            yield _block(block, settings.codec)
            block = []
    if block:
        yield _block(block, settings.codec)
    if left:
        raise LabelSetError(f"{file} changed while it was read; import it again.")


def _block(block: list[Sample], codec: Codec) -> Block:
    arrays = to_arrays(block, codec)
    errors = codec_errors(block, arrays)
    return Block(arrays, float(errors.sum()), float(errors.max()), len(errors))


def _sample(item: Labelled, spec: HessianSpec, seed: int, split: str) -> Sample:
    """The structure without reference labels, which have become its labels."""
    s = replace(item.structure, ref_energy=None, ref_forces=None, ref_stress=None)
    directions = draw(spec, seed, s.id, s.n_atoms)
    assert directions is not None
    assert item.matrix is not None
    assert item.structure.ref_forces is not None
    assert item.structure.ref_energy is not None
    products = directions.vectors(s.n_atoms).reshape(-1, 3 * s.n_atoms) @ item.matrix
    hessian = HessianProducts(directions, products.reshape(-1, s.n_atoms, 3).astype(np.float32))
    forces = item.structure.ref_forces.astype(np.float32)
    return Sample(s, Labels(item.structure.ref_energy, forces, None, hessian), split)
