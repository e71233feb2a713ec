"""What the commands share."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from hdistill.data.errors import LabelSetError
from hdistill.pipelines.cli.main import main
from hdistill.pipelines.report.text import untrusted


@pytest.mark.parametrize("command", ["distill", "fit", "label", "sample"])
def test_no_default_is_empty(command: str) -> None:
    """An option without one says nothing of it."""
    text = CliRunner().invoke(main, [command, "--help"]).output
    assert "[default: " in text
    assert not re.search(r"\[default:\s*(\[\]|\(\)|None)?\s*\]", text)


def test_what_strangers_wrote_cannot_reach_the_terminal() -> None:
    """Escape sequences change colours, titles and the text above; some terminals even type for the user."""
    assert untrusted(str)("Å \x1b]0;title\x07 \x1b[2J\r\u202e\n") == "Å ?]0;title? ?[2J??\n"
    with pytest.raises(LabelSetError, match="lacks something to be shown"):
        untrusted(lambda manifest: manifest["teacher"]["name"])({"teacher": {}})
    with pytest.raises(LabelSetError, match="--json"):
        untrusted(lambda manifest: f"{manifest['error']:.1e}")({"error": "small"})
