"""A report as Markdown and as one self-contained page: sections of sentences, tables and pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Section:
    """rows: what, value with its unit, of how many or where from. tables: title, header and rows. pictures: name and caption."""

    title: str
    sentences: tuple[str, ...] = ()
    rows: tuple[tuple[str, str, str], ...] = ()
    tables: tuple[tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]], ...] = ()
    pictures: tuple[tuple[str, str], ...] = field(default=())


def as_markdown(title: str, sections: Sequence[Section], pictures: Collection[str]) -> str:
    """pictures: the names of those that were drawn."""
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
            if name in pictures:
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
            if name not in pictures:
                continue
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
