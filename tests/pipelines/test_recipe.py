"""Recipes by name and by file, and the options that go over them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from hdistill.data.errors import InputError
from hdistill.pipelines.cli.main import main
from hdistill.pipelines.recipe import fit_settings, named_recipes
from hdistill.trainer.fitting.settings import FitSettings
from tests.data.samples import write_label_set
from tests.trainer.structures import argon_samples
from tests.trainer.test_targets import with_own


def test_the_recipe_of_the_paper() -> None:
    paper = fit_settings("paper", {})
    assert (paper.hessian_norm, paper.products_per_step, paper.max_hessian) == ("product", 1, 1e4)
    assert (paper.targets, paper.halve_hessian_within) == ("reference", 0.05)
    assert fit_settings("paper-mptrj", {}) == replace(paper, products_per_step=4)
    assert set(named_recipes()) == {"paper", "paper-mptrj"}


def test_options_go_over_a_recipe_and_ours_stays_the_default() -> None:
    assert fit_settings("paper", {"targets": "teacher", "steps": 7}).steps == 7
    ours = fit_settings(None, {})
    assert ours == FitSettings()
    assert (ours.hessian_norm, ours.max_hessian, ours.halve_hessian_within) == ("atoms", None, None)


def test_a_file_is_a_recipe_and_a_mistyped_name_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text('targets = "mix"\nreference-share = 0.25\n')
    assert fit_settings(tmp_path / "mine.toml", {}).reference_share == 0.25
    with pytest.raises(
        InputError, match=r"no recipe 'papper', and no such file; there are paper, .*Did you mean 'paper'"
    ):
        fit_settings("papper", {})
    with pytest.raises(InputError, match=r"none\.toml cannot be read"):
        fit_settings("none.toml", {})
    with pytest.raises(InputError, match=r"reference_share was 1.5; it must be between 0 and 1"):
        fit_settings(tmp_path / "mine.toml", {"reference_share": 1.5})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paper").write_text("steps = 3\n")  # a file of that name is what was meant
    assert fit_settings("paper", {}).steps == 3


def test_the_command_trains_by_the_paper_s_recipe(tmp_path: Path) -> None:
    """Rows, the sources' own labels, the filter and the halving, from the command line to the student's card."""
    samples = [with_own(s, error=2.0, seed=i) for i, s in enumerate(argon_samples(20, "rows:4"))]
    labels = write_label_set(tmp_path / "labels", samples)
    words = [
        *("fit", labels, "-o", tmp_path / "run", "--recipe", "paper", "--student", "painn-small", "--steps", 6),
        *("--log", "tensorboard", "--quiet", "--json"),
    ]
    messages = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert messages.exit_code == 0, messages.output
    card = json.loads((tmp_path / "run" / "student.json").read_text())
    assert card["settings"]["hessian_norm"] == "product"
    assert card["settings"]["hessian_weight"] == 400
    assert any((tmp_path / "run" / "tensorboard").iterdir())
    wrong = CliRunner().invoke(main, ["fit", str(labels), "-o", str(tmp_path / "no"), "--recipe", "papre"])
    assert wrong.exit_code == 1
    assert "Did you mean 'paper'" in wrong.output


def test_the_help_of_fit_has_sections_with_every_option() -> None:
    """Each setting that an option sets is shown once, and those of the loss under its title."""
    fit = main.commands["fit"]
    text = CliRunner().invoke(main, ["fit", "--help"], terminal_width=120).output
    assert text.index("The run:") < text.index("The loss:") < text.index("--hessian-norm") < text.index("The steps:")
    assert f"[default: {FitSettings().steps}]" in " ".join(text.split())
    assert "--learning-rate R    At its highest, after the warm-up.  [default: 0.005]" in text
    assert "[default: eager]" in text
    options = [p for p in fit.params if p.param_type_name == "option"]
    assert len(options) > 25
    assert all(text.count(f" {option.opts[-1]} ") + text.count(f" {option.opts[-1]}\n") >= 1 for option in options)
