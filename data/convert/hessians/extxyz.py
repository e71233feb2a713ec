"""Extended XYZ: `hessian` in the comment (9 N^2 numbers) or as 9N columns of the atoms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...sources.readers.extxyz import frames, record_of_frame
from ...sources.record import Record, Unusable
from .contract import HessianReader, HessianRecord, Refused

KEY = "hessian"


def read(path: Path) -> Iterator[HessianRecord | Refused]:
    """The frames of a file. Raises InputError."""
    for number, frame in enumerate(frames(path)):
        place = f"{path.name}@{number}"
        try:
            record = record_of_frame(frame)
            info = dict(record.info)
            hessian = info.pop(KEY, None)
            if hessian is None and KEY in record.arrays:
                hessian = record.arrays[KEY]
        except Unusable as unusable:
            yield Refused(place, unusable)
            continue
        yield HessianRecord(place, Record(**{**vars(record), "info": info}), hessian)


READER = HessianReader("extended XYZ", lambda path: True, read, length_is_known=True, order=100)
