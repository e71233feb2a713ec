"""The report as Markdown and as one self-contained page: sections of sentences, tables and pictures, made from plain numbers."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WORST_SHOWN = 10


@dataclass(frozen=True)
class Section:
    """rows: what, value with its unit, of how many or where from. tables: title, header and rows. pictures: name and caption."""

    title: str
    sentences: tuple[str, ...] = ()
    rows: tuple[tuple[str, str, str], ...] = ()
    tables: tuple[tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]], ...] = ()
    pictures: tuple[tuple[str, str], ...] = field(default=())


def sections_of(report: Mapping[str, Any]) -> list[Section]:
    """What the page says, in order; report: as in report.json."""
    errors, parts = report["errors"], report["parts"]
    sections = [_verdicts(report), _errors(errors, report.get("twin"))]
    makers = {"accuracy": _accuracy, "smoothness": _smoothness, "dynamics": _dynamics, "speed": _speed}
    for name, part in parts.items():
        if "does_not_apply" in part:
            sections.append(Section(name.capitalize(), (f"Not measured: {part['does_not_apply']}",)))
        else:
            sections.append(makers[name](part))
    return [section for section in sections if section is not None]


def _verdicts(report: Mapping[str, Any]) -> Any:
    rows = report["verdicts"]
    if not rows:
        return None
    table = tuple(
        (
            row["figure"],
            "not measured" if row["measured"] is None else f"{row['measured']:.4g}",
            row["required"],
            "passed" if row["passed"] else "FAILED",
        )
        for row in rows
    )
    passed = sum(row["passed"] for row in rows)
    return Section(
        "Verdict",
        (f"{passed} of {len(rows)} requirements are met.",),
        tables=(("", ("figure", "measured", "required", ""), table),),
    )


def _errors(errors: Mapping[str, Any], twin: Mapping[str, Any] | None) -> Section:
    wanted = (
        ("force MAE", "force_mae_mev_per_angstrom", "meV/Å", ".1f"),
        ("energy MAE", "energy_mae_mev_per_atom", "meV/atom", ".2f"),
        ("stress MAE", "stress_mae_mev_per_angstrom3", "meV/Å³", ".2f"),
        ("Hessian, relative error of products", "hessian_relative_error", "", ".3f"),
        ("energy differences within a composition, MAE", "difference_mae_mev", "meV", ".1f"),
        ("rank correlation of energies within a composition", "rank_correlation", "", ".2f"),
    )
    count = f"{errors['n_structures']} structures, split {errors['split']}"

    def shown(of: Mapping[str, Any], key: str, unit: str, form: str) -> str:
        return "-" if of.get(key) is None else f"{of[key]:{form}} {unit}".strip()

    if twin is None:
        rows = tuple((name, shown(errors, key, unit, form), count) for name, key, unit, form in wanted)
        return Section("Errors on held-out structures", rows=rows)
    rows = tuple((name, shown(errors, key, u, f), shown(twin, key, u, f)) for name, key, u, f in wanted)
    table = (("", "this student", "its twin"), rows)
    return Section("Errors on held-out structures, beside the twin", (f"Of {count}.",), tables=(("", *table),))


def _accuracy(part: Mapping[str, Any]) -> Section:
    count = f"{part['n_structures']} structures, {part['n_atoms']} atoms"
    rows = [
        (
            "force RMSE",
            f"{part['force_rmse']:.1f} meV/Å",
            f"{count}; the labels' own rms is {part['force_rms']:.0f} meV/Å",
        ),
        ("energy RMSE", f"{part['energy_rmse']:.2f} meV/atom", count),
    ]
    if part["force_cosine"] is not None:
        rows.append(("cosine of forces, mean", f"{part['force_cosine']:.4f}", "atoms with more than 50 meV/Å"))
    domain = part["domain"]
    if domain is not None:
        if domain["rank_correlation"] is not None:
            rows.append(
                ("rank correlation of domain distance and force error", f"{domain['rank_correlation']:.2f}", "atoms")
            )
        if domain["flagged_share_of_bad"] is not None:
            text = f"{100 * domain['flagged_share_of_bad']:.0f} %"
            rows.append(
                (
                    "of errors above 3 times the mean, among the tenth that is strangest",
                    text,
                    f"{domain['n_bad']} atoms",
                )
            )
    elements = tuple((name, f"{e['force_mae']:.1f}", str(e["n_atoms"])) for name, e in part["by_element"].items())
    worst = tuple(
        (
            row["group"] or row["structure"][:12],
            f"{row['force_mae_mev_per_angstrom']:.1f}",
            f"{row['energy_error_mev_per_atom']:+.2f}",
            row["worst_atom"],
        )
        for row in part["worst"][:WORST_SHOWN]
    )
    pictures = [("parity", "Forces of the student against the labels, components.")]
    if part["strangeness"] is not None:
        pictures.append(
            ("strangeness", "Force error of atoms against their domain distance: does the distance see what is wrong?")
        )
    return Section(
        "Accuracy",
        rows=tuple(rows),
        tables=(
            ("By element", ("element", "force MAE meV/Å", "atoms"), elements),
            ("The worst structures", ("structure", "force MAE meV/Å", "energy error meV/atom", "worst atom"), worst),
        ),
        pictures=tuple(pictures),
    )


def _smoothness(part: Mapping[str, Any]) -> Section:
    holes = [(name, f"{d['hole']:.2f} Å") for name, d in part["dimers"].items() if d["hole"] is not None]
    rows = (
        (
            "pairs of elements that attract each other where they must not",
            str(part["n_holes"]),
            f"of {part['n_pairs']} dimers, nearer than 0.75 of their covalent radii",
        ),
        (
            "largest step of a dimer's energy at the cutoff",
            f"{1e3 * part['cutoff_step']:.4f} meV",
            f"{part['n_pairs']} dimers",
        ),
        ("energy of two far copies less twice one", f"{1e3 * part['extensivity']:.2g} meV", "one dimer"),
    )
    words = (
        "Free dimers are nobody's training structures: what counts here is that atoms repel each other when they come close.",
    )
    tables = (("Holes", ("pair", "attracted up to"), tuple(holes)),) if holes else ()
    return Section("Smoothness", words, rows, tables, (("dimers", "Energies of dimers above those at the cutoff."),))


def _dynamics(part: Mapping[str, Any]) -> Section:
    table = tuple(
        (
            f"{run['temperature']:g} K",
            "-" if run["drift_mev_per_atom"] is None else f"{run['drift_mev_per_atom']:+.3f}",
            "-" if run["excursion_mev_per_atom"] is None else f"{run['excursion_mev_per_atom']:.3f}",
            f"{run['stable_until_fs'] / 1e3:g}",
            run["why"] or "whole",
        )
        for run in part["runs"]
    )
    header = ("NVE from", "drift meV/atom", "largest excursion meV/atom", "whole for ps", "")
    return Section(
        "Dynamics",
        (f"Constant energy, 2 ps, of {part['formula']}, a held-out structure.",),
        tables=(("", header, table),),
    )


def _speed(part: Mapping[str, Any]) -> Section:
    how = "machine code" if part["compiled"] else "eager"
    rows = (
        (
            "a call at moved positions, neighbour list included",
            f"{part['ms_per_call']:.2f} ms",
            f"{part['n_atoms']} atoms, {how}, median of 18",
        ),
        ("dynamics at 1 fs a step", f"{part['ns_per_day_at_1_fs']:.2f} ns/day", "at that time a call"),
    )
    return Section("Speed", rows=rows)


def as_markdown(title: str, sections: Sequence[Section]) -> str:
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for sentence in section.sentences:
            lines += [sentence, ""]
        if section.rows:
            lines += _table(("what", "value", "of"), section.rows)
        for name, header, rows in section.tables:
            lines += [f"**{name}**", ""] if name else []
            lines += _table(header, rows)
        for name, caption in section.pictures:
            lines += [f"![{caption}](figures/{name}.png)", ""]
    return "\n".join(lines).rstrip() + "\n"


def as_html(title: str, sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """One page, with nothing outside of it. pictures: PNGs by name."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        body.append(f"<section><h2>{html.escape(section.title)}</h2>")
        body += [f"<p>{html.escape(sentence)}</p>" for sentence in section.sentences]
        if section.rows:
            body.append(_html_table((), section.rows))
        for name, header, rows in section.tables:
            body += [f"<h3>{html.escape(name)}</h3>"] if name else []
            body.append(_html_table(header, rows))
        for name, caption in section.pictures:
            data = base64.b64encode(pictures[name]).decode()
            text = html.escape(caption)
            body.append(
                f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
            )
        body.append("</section>")
    return PAGE.format(title=html.escape(title), body="\n".join(body))


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 60rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.2rem; margin-top: 2rem; }} h3 {{ font-size: 1rem; margin-bottom: .3rem; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .9rem; }}
td, th {{ padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #8884; }}
td.bad {{ font-weight: bold; color: #d55e00; }} td.good {{ color: #0a7f5a; }}
figure {{ margin: 1rem 0; }} img {{ max-width: 100%; height: auto; background: #fff; border-radius: 4px; }}
figcaption {{ font-size: .85rem; opacity: .8; }}
@media print {{ section {{ break-inside: avoid; }} }}
</style></head><body>
{body}
</body></html>
"""


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = {"FAILED": ' class="bad"', "passed": ' class="good"'}
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = [
        f"<tr>{''.join(f'<td{marks.get(cell, str())}>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    ]
    return f'<div class="table"><table>{f"<tr>{head}</tr>" if header else ""}{"".join(lines)}</table></div>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(header), line(["---"] * len(header)), *map(line, rows), ""]
