"""Trajectories on disk, in three forms that people's tools read, each of which can be cut after a frame and gone on with.

xyz   extended XYZ, one frame after the other, with energies, forces, momenta, stress and each atom's domain_distance
traj  ASE's own
nc    AMBER's NetCDF convention: compact, for VMD, OVITO, MDAnalysis, cpptraj; positions, velocities and cells
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ase import Atoms

FORMS = ("xyz", "traj", "nc")


class TrajectoryWriter(Protocol):
    def write(self, atoms: Atoms, fs: float) -> None:
        """One more frame, complete in the file when this returns."""

    def close(self) -> None: ...


def open_trajectory(folder: Path, form: str, n_frames: int, n_bytes: int) -> TrajectoryWriter:
    """Go on after the first n_frames of folder/trajectory.<form>, which of an xyz are its first n_bytes; 0: begin anew.

    Raises InputError for another form, or where netCDF4 is missing.
    """
    from hdistill.data.errors import InputError

    path = trajectory_path(folder, form)
    if form == "xyz":
        return _ExtendedXYZ(path, n_bytes)
    if form == "traj":
        return _AseTrajectory(path, n_frames)
    if form == "nc":
        return _NetCDF(path, n_frames)
    raise InputError(f"There is no trajectory form '{form}'; there are {', '.join(FORMS)}.")


def trajectory_path(folder: Path, form: str) -> Path:
    return folder / f"trajectory.{form}"


def frame_of(atoms: Atoms, fs: float) -> Atoms:
    """A copy with the results of the last calculation, the time, and domain_distance where it is known."""
    from ase.calculators.calculator import all_properties
    from ase.calculators.singlepoint import SinglePointCalculator

    frame = atoms.copy()
    frame.calc = SinglePointCalculator(frame, **{k: v for k, v in atoms.calc.results.items() if k in all_properties})
    frame.info["time_fs"] = fs
    distances = getattr(atoms.calc, "domain_distance", None)
    if distances is not None:
        frame.arrays["domain_distance"] = distances
    return frame


class _ExtendedXYZ:
    def __init__(self, path: Path, n_bytes: int):
        self.file = path.open("r+" if n_bytes else "w")
        self.file.truncate(n_bytes)
        self.file.seek(0, os.SEEK_END)

    def write(self, atoms: Atoms, fs: float) -> None:
        from ase.io import write

        write(self.file, frame_of(atoms, fs), format="extxyz")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class _AseTrajectory:
    def __init__(self, path: Path, n_frames: int):
        from ase.io.trajectory import Trajectory

        if n_frames:
            kept = path.with_name(f".{path.name}.kept")
            with Trajectory(str(path)) as old, Trajectory(str(kept), "w") as new:
                for index in range(n_frames):
                    new.write(old[index])
            os.replace(kept, path)
        self.file: Any = Trajectory(str(path), "a" if n_frames else "w")

    def write(self, atoms: Atoms, fs: float) -> None:
        self.file.write(frame_of(atoms, fs))

    def close(self) -> None:
        self.file.close()


class _NetCDF:
    def __init__(self, path: Path, n_frames: int):
        from hdistill.data.errors import InputError

        try:
            import netCDF4  # noqa: F401
        except ImportError:
            raise InputError("Trajectories as nc need the package netCDF4; type `pip install netCDF4`.") from None
        from ase.io.netcdftrajectory import NetCDFTrajectory

        self.n_frames = n_frames
        self.file: Any = NetCDFTrajectory(str(path), "a" if n_frames else "w")

    def write(self, atoms: Atoms, fs: float) -> None:
        self.file.write(frame_of(atoms, fs), frame=self.n_frames, time=fs / 1000)  # ps, as the convention has it
        self.n_frames += 1

    def close(self) -> None:
        self.file.close()
