"""How fast MPtrj's JSON is read, and in how much memory, beside a loop of ijson that throws everything away.

    python benchmarks/read_mptrj.py --mb 100

A made file of so many MB: perovskites of 40 atoms, ten frames each. CPU seconds of one process; the file is read once beforehand.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from hdistill.data import sources


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=100.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = made(Path(folder) / "MPtrj_made.json", given.mb * 1e6)
        size = path.stat().st_size / 1e6
        bare = seconds(lambda: loop(path))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        ours = seconds(lambda: sum(1 for _ in sources.read("mptrj:all", path)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        named = seconds(lambda: sum(1 for _ in sources.read("mptrj:yttrium", path)))
    print(
        f"{size:.0f} MB: ijson alone {size / bare:.1f} MB/s; structures {size / ours:.1f} MB/s ({ours / bare:.2f} times the loop),"
    )
    print(f"mptrj:yttrium {size / named:.1f} MB/s; memory grew by {peak - before:.0f} MB")


def made(path: Path, n_bytes: float) -> Path:
    rng, written = np.random.default_rng(0), 0
    symbols = ["Sr"] * 8 + ["Y"] * 8 + ["O"] * 24
    with path.open("w") as file:
        number = 0
        while written < n_bytes:
            frames = {f"mp-{number}-0-{k}": frame(symbols, rng) for k in range(10)}
            written += file.write(("{" if number == 0 else ", ") + f'"mp-{number}": {json.dumps(frames)}')
            number += 1
        file.write("}")
    return path


def frame(symbols: list[str], rng: np.random.Generator) -> dict[str, object]:
    sites = [
        {"species": [{"element": s, "occu": 1}], "abc": abc, "xyz": abc, "label": s, "properties": {"magmom": 0.0}}
        for s, abc in zip(symbols, rng.uniform(size=(len(symbols), 3)).tolist(), strict=True)
    ]
    return {
        "structure": {"lattice": {"matrix": (7.8 * np.eye(3)).tolist()}, "sites": sites},
        **{"uncorrected_total_energy": -1.0, "corrected_total_energy": -1.0, "bandgap": 0.0},
        **{"force": rng.normal(size=(len(symbols), 3)).tolist(), "stress": np.eye(3).tolist()},
    }


def loop(path: Path) -> None:
    import ijson

    with path.open("rb") as stream:
        for _ in ijson.kvitems(stream, "", use_float=True):
            pass


def seconds(run: object) -> float:
    began = time.process_time()
    run()  # type: ignore[operator]
    return time.process_time() - began


if __name__ == "__main__":
    main()
