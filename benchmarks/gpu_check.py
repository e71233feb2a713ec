"""Students on a machine with a GPU and many cores, in one run of minutes: parity, milliseconds, and fits in parallel.

    python benchmarks/gpu_check.py LABELS -o OUT --minutes 9            # continues where it stopped
    python benchmarks/gpu_check.py LABELS -o OUT --report               # the tables of what is there

LABELS holds label sets as student_sweep.py makes them: pool-400 and pool-2000 to learn from, `new` to be judged by. Two lanes run
side by side: one process on the GPU (CUDA against CPU: energies, forces, products; ms of training steps, eager, and compiled in a
process that may take --compile-seconds; ms of calls of 9 to 10,000 atoms; fits), and one fit a core, one thread each. Budgets of
fits are CPU seconds of training steps. Each job is a process and one line of OUT/rows.jsonl as soon as it ends; when the time is
up what still runs is ended and left out. Jobs are in the order of importance. Needs what fits need, and no teacher.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from gpu_check_jobs import Job
from student_variants import add_row, read_rows

STUDENTS = (
    "ace-small",
    "ace",
    "moment-large",
    "painn-small",
    "painn",
    "ace-large",
    "ace-local-small",
    "ace-local",
    "ace-local-large",
)
VARIANTS = (
    "ace:max_l=1",
    "ace:max_l=3",
    "ace:cutoff=5.0",
    "ace:channels=48",
    "ace-small:channels=16",
    "ace:basis=6",
    "ace-small:layers=3",
    "ace-local:max_l=2",
    "ace-local:cutoff=6.0",
)
STARTING = 40.0  # seconds that a fit takes beside its budget: imports, statistics, validation, errors


@dataclass
class Lane:
    """Jobs that wait, and at most `width` processes of those that run."""

    waiting: list[Job]
    width: int


@click.command()
@click.argument("labels", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("gpu_check"), show_default=True)
@click.option("--minutes", default=9.0, show_default=True, help="Of wall time, for all of it.")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--cores", default=max(1, (os.cpu_count() or 1) - 2), show_default=True, help="Fits at once, on CPUs.")
@click.option("--student", "students", multiple=True, help="Default: nine of ours.")
@click.option("--variant", "variants", multiple=True, help="As `ace:max_l=3`, fitted on CPUs. Default: nine of `ace`.")
@click.option("--budgets", default="300,60", show_default=True, help="CPU seconds of fits, the first of them first.")
@click.option(
    "--n", "sizes", default="2000,400", show_default=True, help="Structures to learn from; of short fits all."
)
@click.option("--compile-seconds", default=100.0, show_default=True, help="For each compiled step; 0: none.")
@click.option("--report", "only_report", is_flag=True, help="Run nothing.")
def main(
    labels: Path,
    out: Path,
    minutes: float,
    device: str,
    cores: int,
    students: tuple[str, ...],
    variants: tuple[str, ...],
    budgets: str,
    sizes: str,
    compile_seconds: float,
    only_report: bool,
) -> None:
    until = time.monotonic() + 60 * minutes
    chosen = students or STUDENTS
    others = variants or (() if students else VARIANTS)
    seconds, structures = [float(b) for b in budgets.split(",")], [int(n) for n in sizes.split(",")]
    if not only_report:
        lanes = [
            Lane(list(device_jobs(chosen, device, seconds, structures, compile_seconds)), 1),
            Lane(list(cpu_jobs(chosen, others, seconds, structures, compile_seconds)), cores),
        ]
        work(lanes, labels, out, until)
    for table in tables(read_rows(out / "rows.jsonl")):
        print(table, end="\n\n")


def device_jobs(
    students: Sequence[str], device: str, budgets: Sequence[float], sizes: Sequence[int], compile_seconds: float
) -> Iterator[Job]:
    """Timings, a compiled step and fits with large and small batches of the first students, then of the others; none without a GPU."""
    if device == "cpu":
        return
    first, others = students[:4], students[4:]
    for student in first:
        yield Job("timing", student, device)
    for student in first[1:2] if compile_seconds > 0 else ():
        yield Job("compiled", student, device, seconds=compile_seconds, compile=True)
        yield Job("fit", student, device, max(sizes), min(budgets), 64, compile=True)
    for student, batch_size in (*((student, 64) for student in first), *((student, 8) for student in first[:2])):
        yield Job("fit", student, device, max(sizes), min(budgets), batch_size)
    for student in others:
        yield Job("timing", student, device)
    for student in others:
        yield Job("fit", student, device, max(sizes), min(budgets), 64)


def cpu_jobs(
    students: Sequence[str],
    variants: Sequence[str],
    budgets: Sequence[float],
    sizes: Sequence[int],
    compile_seconds: float,
) -> Iterator[Job]:
    """The longest fits on most structures, compiled steps of the first students, short fits on all, timings, short plain fits."""
    for student in (*students, *variants):
        yield Job("fit", student, "cpu", max(sizes), max(budgets))
    for student in students[:2] if compile_seconds > 0 else ():
        yield Job("compiled", student, "cpu", seconds=compile_seconds, compile=True)
    for budget in budgets[1:]:
        for n in sizes:
            for student in (*students, *variants):
                yield Job("fit", student, "cpu", n, budget)
    for student in students:
        yield Job("timing", student, "cpu")
    for budget in budgets[1:]:
        for student in students:
            yield Job("fit", student, "cpu", max(sizes), budget, plain=True)


def work(lanes: Sequence[Lane], labels: Path, out: Path, until: float) -> None:
    """Run jobs until all are done or the time is up; a job that could not end in time is not begun."""
    done = {row["name"] for row in read_rows(out / "rows.jsonl")}
    running: list[tuple[Lane, Job, float, subprocess.Popen[bytes]]] = []
    try:
        while time.monotonic() < until:
            for lane in lanes:
                lane.waiting = [job for job in lane.waiting if job.name not in done]
                while lane.waiting and sum(own is lane for own, *_ in running) < lane.width:
                    job = lane.waiting.pop(0)
                    if time.monotonic() + job.seconds + (STARTING if job.kind == "fit" else 0) < until:
                        running.append((lane, job, time.monotonic(), begun(job, labels, out)))
            if not running and not any(lane.waiting for lane in lanes):
                return
            time.sleep(0.2)
            still = []
            for lane, job, began, process in running:
                if process.poll() is not None:
                    finish(job, process.returncode, time.monotonic() - began, out)
                elif job.kind != "fit" and time.monotonic() - began > job.seconds + STARTING:
                    process.kill()
                    say(f"{job.name}: ended after {time.monotonic() - began:.0f} s")
                else:
                    still.append((lane, job, began, process))
            running = still
        say(f"The time is up; {len(running)} jobs are left out: {', '.join(job.name for _, job, *_ in running)}")
    finally:
        for *_, process in running:
            process.kill()


def begun(job: Job, labels: Path, out: Path) -> subprocess.Popen[bytes]:
    """A process of its own that leaves its row in a file of its own."""
    folder = out / "jobs" / job.name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("gpu_check_jobs.py")), json.dumps(asdict(job))]
    command += [str(labels), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if job.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def finish(job: Job, code: int, seconds: float, out: Path) -> None:
    folder = out / "jobs" / job.name
    if code == 0:
        row = json.loads((folder / "row.json").read_text())
        add_row(out / "rows.jsonl", {"name": job.name, **asdict(job), "wall": seconds, **row})
        say(f"{job.name}: {short(row)} ({seconds:.0f} s)")
    else:
        last = (folder / "log.txt").read_text(errors="replace").strip().splitlines()[-1:]
        say(f"{job.name}: failed with exit code {code}: {' '.join(last)[:300]}")


def short(row: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, int | float))


def tables(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Markdown: fits by budget, the best first; timings; compiled steps."""
    fits = [row for row in rows if row["kind"] == "fit"]
    for device, n, budget, plain in sorted({(r["device"], r["n"], r["seconds"], r["plain"]) for r in fits}):
        own = [r for r in fits if (r["device"], r["n"], r["seconds"], r["plain"]) == (device, n, budget, plain)]
        kind = "energies and forces" if plain else "with Hessian products"
        yield f"Fits of {budget:g} CPU s on {device}, {n} structures, {kind}, new molecules:\n" + markdown(
            ("student", "batch_size", "parameters", "steps", "force_mae", "energy_mae", "hessian"),
            sorted(own, key=lambda row: row["force_mae"]),
        )
    for device in sorted({row["device"] for row in rows if row["kind"] == "timing"}):
        own = [row for row in rows if row["kind"] == "timing" and row["device"] == device]
        names = sorted({name for row in own for name in row if name.startswith(("ms ", "off "))}, key=_by_number)
        yield f"On {device}, float32, ms of eager steps and calls:\n" + markdown(("student", *names), own)
    compiled = [row for row in rows if row["kind"] == "compiled"]
    names = sorted({name for row in compiled for name in row if name.startswith(("ms ", "build"))})
    if compiled:
        yield "Compiled training steps:\n" + markdown(("student", "device", *names), compiled)


def _by_number(name: str) -> tuple[str, int]:
    digits = "".join(c for c in name if c.isdigit())
    return "".join(c for c in name if not c.isdigit()), int(digits or 0)


def markdown(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    def cell(value: Any) -> str:
        return (
            f"{value:.3g}"
            if isinstance(value, float) and abs(value) < 100
            else f"{value:.0f}"
            if isinstance(value, float)
            else str(value)
        )

    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    return "\n".join(lines + ["| " + " | ".join(cell(row.get(name, "")) for name in names) + " |" for row in rows])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
