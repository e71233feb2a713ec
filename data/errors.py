"""The errors a user can cause. Each message says what was found, what was wanted and what to do next.

HDistillError
├── InputError          a file, an option or a structure that cannot be used
│   └── PackageMissing  a student that needs a package which this interpreter does not have
├── LabelSetError       a label set that is corrupt, foreign, incomplete or of another version
│   └── PlanMismatch    an output directory that belongs to another plan
├── RemoteError         a place on the network that cannot be reached, read or written
├── LicenceError        a label set that its licences do not let one share
└── TeacherError        a teacher that cannot be loaded or refuses what it is given
    ├── TeacherMissing  not installed anywhere; the message holds the command that installs it
    └── TeacherCrashed  the teacher process died or missed its deadline
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HDistillError(Exception):
    """Base of all errors that are shown as one sentence and not as a traceback."""


class InputError(HDistillError):
    """A file, an option or a structure that cannot be used."""


class PackageMissing(InputError):
    """A student needs a package that this interpreter does not have; family: whose environment would have it."""

    def __init__(self, message: str, family: str):
        super().__init__(message)
        self.family = family


class LabelSetError(HDistillError):
    """A label set that is corrupt, foreign, incomplete or of another version."""


class PlanMismatch(LabelSetError):
    """The output directory holds the work of another plan."""


class RemoteError(HDistillError):
    """A place on the network, or another folder, that cannot be reached, read or written."""


class LicenceError(HDistillError):
    """A label set that the licences of its structures and weights do not let one share."""


class TeacherError(HDistillError):
    """A teacher that cannot be loaded or refuses what it is given."""


class TeacherMissing(TeacherError):
    """The teacher's package is installed nowhere we know of."""


class TeacherCrashed(TeacherError):
    """The teacher process died or missed its deadline while it worked on a batch."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: ' Did you mean X?', or an empty string where nothing is near."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{matches[0]}'?" if matches else ""
