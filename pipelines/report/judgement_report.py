"""The report's folder: report.html, report.md, report.json and figures/, each written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hdistill.data.support.publish import publish

from .judgement_figures import figures_of
from .page import Section, as_html, as_markdown
from .sections import sections_of

VERSION = 1  # of report.json
WITHOUT_PICTURES = "None were drawn: they need matplotlib (pip install -c constraints.txt '.[plot]')."


def write_report(out: Path, report: Mapping[str, Any], title: str) -> Path:
    """Returns report.html. report: errors, twin, parts, verdicts, of `distill` also distill, as in report.json."""
    pictures, sections = figures_of(report), sections_of(report)
    if not pictures:
        sections.append(Section("Pictures", (WITHOUT_PICTURES,)))
    for picture, data in pictures.items():
        publish(out / "figures" / f"{picture}.png", data, replace=True)
    content = {"format": "hdistill report", "version": VERSION, **report}
    publish(out / "report.json", (json.dumps(content, indent=1) + "\n").encode(), replace=True)
    publish(out / "report.md", as_markdown(title, sections, pictures).encode(), replace=True)
    publish(out / "report.html", as_html(title, sections, pictures).encode(), replace=True)
    return out / "report.html"
