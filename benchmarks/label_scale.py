"""What the labeler costs besides the teacher: planning, Dask and child processes, a second worker, the end of a run.

    python benchmarks/label_scale.py                                    # about six minutes on two idle cores
    python benchmarks/label_scale.py --sizes 2000 --finish 2000 --chunks 8 --rounds 1      # one minute, to see that it works
    python benchmarks/label_scale.py --sizes 10000,100000,1000000 --only planning          # fifteen minutes

planning    from an extxyz file to a plan on disk, by `lennard-jones`; baseline: ase.io.iread over the same structures.
overhead    Dask, one worker, its teacher's child and everything written, where a batch takes half a second of CPU; baseline:
            the same teacher asked for the same batches by a plain loop in one process, nothing written.
workers     two workers; baseline: one worker.
fixed       CPU seconds of a whole run of 60 small structures by the command line, its processes and imports, and those of a bare loop
            that loads the same teacher once and asks it for the same labels.
finishing   chunks to shards and manifest; and how many chunks a second go through Dask when there is nothing to do.

Memory is the growth of the largest resident size of a fresh process over what it was after its imports. Seconds are of wall time
where they are not called CPU seconds: `steady` is from the first chunk of every worker to its last but one, `whole` has planning,
the start of all processes and finishing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 64  # structures in a chunk, which are one batch
BATCH_S = 0.5  # CPU seconds of a batch
POLL_S = 0.05
PARTS = ("planning", "overhead", "workers", "fixed", "finishing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000", help="structures to plan, ascending (default %(default)s)")
    parser.add_argument("--finish", type=int, default=20_000, help="structures to finish (default %(default)s)")
    parser.add_argument("--chunks", type=int, default=40, help="chunks of half a second (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of overhead and workers (default %(default)s)")
    parser.add_argument("--teacher", default="lennard-jones", help="names, of the fixed cost (default %(default)s)")
    parser.add_argument("--only", default=",".join(PARTS), help="some of %(default)s")
    parser.add_argument("--folder", type=Path, help="where to work; default: the folder for temporary files")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only knows {', '.join(PARTS)}, not {', '.join(unknown)}")
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        if "planning" in parts:
            show_planning(folder, [int(size) for size in given.sizes.split(",")])
        if "overhead" in parts or "workers" in parts:
            show_workers(folder, given.chunks, given.rounds, "workers" in parts)
        if "fixed" in parts:
            show_fixed(folder, given.teacher.split(","))
        if "finishing" in parts:
            show_finishing(folder, given.finish)


def show_planning(folder: Path, sizes: list[int]) -> None:
    print("            CPU s              wall                CPU,      memory, MB       bytes           disk")
    print("structures  reading  planning  planning  per s  / reading  imports  growth  each  chunks    MB", flush=True)
    for size in sizes:
        path = write_clusters(folder / "clusters.xyz", size)
        reading = child("iread", path)["cpu"]
        actual = child("plan", path, folder / f"plan-{size}")
        print(
            f"{size:>10}  {reading:7.1f}  {actual['cpu']:8.1f}  {actual['seconds']:6.1f} s  {size / actual['seconds']:5.0f}"
            f"  {actual['cpu'] / reading:8.2f}x  {actual['before'] / 1e6:7.0f}  {actual['growth'] / 1e6:6.1f}"
            f"  {actual['growth'] / size:4.0f}  {actual['chunks']:6}  {actual['disk'] / 1e6:4.0f}",
            flush=True,
        )


def show_workers(folder: Path, chunks: int, rounds: int, with_two: bool) -> None:
    """Plain loop, one worker, two workers, in turn; medians."""
    path = write_clusters(folder / "busy.xyz", BATCH * chunks)
    kinds = ("loop", 1, 2) if with_two else ("loop", 1)
    steady: dict[str | int, list[float]] = {kind: [] for kind in kinds}
    whole: dict[str | int, list[float]] = {kind: [] for kind in kinds}
    for turn in range(rounds):
        for kind in kinds:
            out = folder / f"busy-{kind}-{turn}"
            actual = child("loop", path) if kind == "loop" else follow(path, out, int(kind))
            steady[kind].append(actual["steady"])
            whole[kind].append(actual["whole"])
    print(f"\n{chunks} chunks of {BATCH_S} s   s per chunk, steady   whole s")
    for kind, name in (("loop", "plain loop"), (1, "one worker"), (2, "two workers"))[: len(kinds)]:
        print(f"{name:19}   {statistics.median(steady[kind]):19.4f}   {statistics.median(whole[kind]):7.2f}")

    def ratios(times: dict[str | int, list[float]], a: str | int, b: str | int) -> str:
        each = [x / y for x, y in zip(times[a], times[b], strict=True)]
        return f"{statistics.median(each):.3f}x ({', '.join(f'{x:.3f}' for x in each)})"

    print(f"one worker / plain loop: steady {ratios(steady, 1, 'loop')}, whole {ratios(whole, 1, 'loop')}")
    if with_two:
        print(f"one worker / two workers: steady {ratios(steady, 1, 2)}, whole {ratios(whole, 1, 2)}", flush=True)


def show_fixed(folder: Path, teachers: list[str]) -> None:
    """What a small run costs besides the teacher's own work, all processes together."""
    path = write_clusters(folder / "small.xyz", 60, "O")
    print("\nteacher          CPU s, bare loop   CPU s, hdistill label   difference", flush=True)
    for teacher in teachers:
        bare = cpu_of([sys.executable, __file__, "--inside", "bare", str(path), teacher])
        words = [
            "label",
            "--teacher",
            teacher,
            "--subset",
            str(path),
            "-o",
            str(folder / f"small-{teacher}"),
            "--quiet",
        ]
        whole = cpu_of([sys.executable, "-m", "hdistill.pipelines", *words])
        print(f"{teacher:15}  {bare:16.1f}   {whole:21.1f}   {whole - bare:10.1f}", flush=True)


def cpu_of(command: list[str]) -> float:
    """CPU seconds of a command and of everything that it waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=environment())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def show_finishing(folder: Path, size: int) -> None:
    path = write_clusters(folder / "finish.xyz", size)
    out = folder / "finish"
    made = child("chunks", path, out)
    sent = child("dispatch", out)
    actual = child("finish", out)
    print(
        f"\n{size} structures in {actual['chunks']} chunks, labelled with 4 probes by two processes: {made['seconds']:.1f} s"
    )
    print(
        f"through Dask, nothing to do in them, two workers: {sent['rate']:.0f} chunks/s, {1e3 * sent['cpu']:.1f} ms of CPU each "
        f"in the coordinator; listing what is missing: {sent['listing']:.2f} s"
    )
    print(
        f"finishing: {actual['seconds']:.1f} s ({actual['cpu']:.1f} s CPU), {size / actual['cpu']:.0f} structures per CPU s, "
        f"{actual['seconds'] / made['seconds']:.2f}x of labelling with Lennard-Jones, growth {actual['growth'] / 1e6:.0f} MB, "
        f"shards {actual['shards']} of {actual['bytes'] / 1e6:.1f} MB together, chunk files {actual['chunk_bytes'] / 1e6:.1f} MB"
    )


def write_clusters(path: Path, n: int, symbol: str = "Ar") -> Path:
    """n clusters of 3 to 6 atoms, ten in a group, as extended XYZ."""
    import numpy as np

    corners = np.array([[x, y, z] for x in (0.0, 3.6) for y in (0.0, 3.6) for z in (0.0, 3.6)])
    rng = np.random.default_rng(0)
    with open(path, "w") as file:
        for number in range(n):
            size = 3 + number % 4
            positions = corners[:size] + rng.normal(scale=0.1, size=(size, 3))
            file.write(f'{size}\nProperties=species:S:1:pos:R:3 group=cluster-{number // 10} pbc="F F F"\n')
            file.writelines(f"{symbol} {x:.8f} {y:.8f} {z:.8f}\n" for x, y, z in positions.tolist())
    return path


def child(what: str, *arguments: Path) -> dict[str, Any]:
    """Run one of INSIDE in a fresh process and return what it found."""
    command = [sys.executable, __file__, "--inside", what, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment())
    actual: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return actual


def environment() -> dict[str, str]:
    """One thread for everybody; this file can be imported, for it has a calculator."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parent)}


def follow(path: Path, out: Path, workers: int) -> dict[str, Any]:
    """Label in a process of its own, looking at the times of its chunk files: seconds a chunk in the steady state, and in all."""
    command = [sys.executable, __file__, "--inside", "label", str(path), str(out), str(workers)]
    times: dict[str, float] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        while process.poll() is None:
            time.sleep(POLL_S)
            try:
                times |= {entry.name: entry.stat().st_mtime for entry in os.scandir(out / "chunks")}
            except OSError:  # not yet, or no longer
                continue
        assert process.stdout is not None
        actual: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
    done = sorted(time for name, time in times.items() if name.endswith(".h5"))
    first, last = workers - 1, actual["chunks"] - workers - 1
    if len(done) <= last:
        raise SystemExit("The last chunks were gone before they could be looked at; give more --chunks.")
    return {"steady": (done[last] - done[first]) / (last - first), "whole": actual["seconds"]}


def busy(seconds: float) -> Any:
    """An ASE calculator (`--teacher ase:label_scale.busy`): Lennard-Jones, and then CPU time until a call took `seconds`."""
    from ase.calculators.lj import LennardJones

    class Busy(LennardJones):
        def calculate(self, *arguments: Any, **named: Any) -> None:
            end = time.process_time() + seconds
            super().calculate(*arguments, **named)
            while time.process_time() < end:
                pass

    return Busy(epsilon=0.0104, sigma=3.4, ro=5.0, rc=6.5, smooth=True)


def busy_settings(path: Path) -> Any:
    from hdistill.labeler.planning.plan import LabelSettings

    argument = f"seconds={BATCH_S / BATCH}"
    return LabelSettings("ase:label_scale.busy", (str(path),), hessian="none", arguments=(argument,), batch_edges=10**6)


def settings(path: Path) -> Any:
    from hdistill.labeler.planning.plan import LabelSettings

    return LabelSettings("lennard-jones", (str(path),))


def inside_iread(path: str) -> dict[str, Any]:
    from ase.io import iread

    began = time.process_time()
    n = sum(1 for _ in iread(path, index=":", format="extxyz"))
    return {"cpu": time.process_time() - began, "n": n}


def inside_plan(path: str, out: str) -> dict[str, Any]:
    import ase.io.extxyz  # noqa: F401  (what planning imports on its way is not growth)
    import vesin  # noqa: F401

    from hdistill.labeler.planning.plan import request_of
    from hdistill.labeler.planning.prepare import prepare
    from hdistill.labeler.process.host import HostSettings, TeacherHost

    wanted = settings(Path(path))
    before, began, cpu = largest(), time.perf_counter(), time.process_time()
    host = TeacherHost(HostSettings(request_of(wanted)))
    plan = prepare(wanted, Path(out), None, host, quiet)
    host.close()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    disk = sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file())
    return {
        "seconds": seconds,
        "cpu": cpu,
        "before": before,
        "growth": largest() - before,
        "chunks": plan.n_chunks,
        "disk": disk,
    }


def inside_loop(path: str) -> dict[str, Any]:
    """The baseline: one process, one teacher, batch after batch."""
    began = time.perf_counter()
    from hdistill.data import sources
    from hdistill.labeler.planning.plan import request_of
    from hdistill.labeler.teachers.ase import load

    teacher = load(request_of(busy_settings(Path(path))))
    structures = list(sources.read(path))
    ready = time.perf_counter()
    labels = [teacher.label(structures[at : at + BATCH], [None] * BATCH) for at in range(0, len(structures), BATCH)]
    end = time.perf_counter()
    return {"steady": (end - ready) / len(labels), "whole": end - began}


def inside_bare(path: str, teacher: str) -> dict[str, Any]:
    """The baseline of the fixed cost: one process with the teacher, which is loaded once and asked for all labels."""
    from hdistill.data import sources
    from hdistill.data.probes import draw, parse_spec
    from hdistill.labeler.process.parent import TeacherProcess
    from hdistill.labeler.teachers import registry
    from hdistill.labeler.teachers.environments import interpreter

    spec = parse_spec("probes:4")
    with TeacherProcess(interpreter(registry.entry(teacher).family), registry.request(teacher)) as process:
        for structure in sources.read(path):
            process.label([structure], [draw(spec, 0, structure.id, structure.n_atoms)])
    return {}


def inside_label(path: str, out: str, workers: str) -> dict[str, Any]:
    began = time.perf_counter()
    from hdistill.labeler.run import RunSettings, label

    result = label(busy_settings(Path(path)), Path(out), run=RunSettings(int(workers), progress=False), say=quiet)
    chunks = result.manifest.counts.n_structures // BATCH
    return {"seconds": time.perf_counter() - began, "chunks": chunks}


def inside_chunks(path: str, out: str) -> dict[str, Any]:
    """All chunks of a plan, and no shards yet."""
    from hdistill.labeler.run import RunSettings, label_share

    wanted = settings(Path(path))
    began = time.perf_counter()
    label_share(wanted, Path(out), (1, 1), run=RunSettings(2, progress=False), say=quiet)
    return {"seconds": time.perf_counter() - began}


def inside_dispatch(out: str) -> dict[str, Any]:
    """The window over Dask for chunks that are done already."""
    from hdistill.labeler.executors.in_process import InProcess
    from hdistill.labeler.executors.pool import TeacherPool
    from hdistill.labeler.planning.plan import load, missing, request_of
    from hdistill.labeler.process.host import HostSettings

    folder = Path(out).resolve()
    plan = load(folder)
    host = HostSettings(request_of(plan.settings))
    began = time.perf_counter()
    assert missing(plan, folder) == []
    listing = time.perf_counter() - began
    chunks = [*range(plan.n_chunks)]
    with TeacherPool(host, 2) as teachers:
        receipts = InProcess(teachers).receipts(chunks, folder)
        next(receipts)
        began, cpu = time.perf_counter(), time.process_time()
        n = sum(1 for _ in receipts)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"rate": n / seconds, "cpu": cpu / n, "listing": listing}


def inside_finish(out: str) -> dict[str, Any]:
    import h5py  # noqa: F401

    from hdistill.labeler.planning.plan import load
    from hdistill.labeler.work.compact import finish

    plan = load(Path(out))
    chunk_bytes = sum(file.stat().st_size for file in Path(out, "chunks").iterdir())
    before, began, cpu = largest(), time.perf_counter(), time.process_time()
    manifest = finish(Path(out), plan)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu": cpu,
        "growth": largest() - before,
        "chunks": plan.n_chunks,
        "chunk_bytes": chunk_bytes,
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
    }


def largest() -> int:
    """The largest resident size of this process until now, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def quiet(_: str) -> None: ...


INSIDE: dict[str, Callable[..., object]] = {
    "iread": inside_iread,
    "plan": inside_plan,
    "loop": inside_loop,
    "bare": inside_bare,
    "label": inside_label,
    "chunks": inside_chunks,
    "dispatch": inside_dispatch,
    "finish": inside_finish,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        print(json.dumps(INSIDE[sys.argv[2]](*sys.argv[3:])))
    else:
        main()
