"""`import hdistill`: light, visible to type checkers and to tab completion, and the same things as on the command line."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import click
import pytest

import hdistill
from hdistill.labeler.planning.plan import LabelSettings
from hdistill.pipelines.api.labelling import estimate, label, label_share
from hdistill.pipelines.api.options import FitOptions, LabelOptions, ResumeOptions
from hdistill.pipelines.cli.main import main
from hdistill.trainer.fitting.settings import MAY_CHANGE, FitSettings

ROOT = Path(__file__).resolve().parents[2]


def test_importing_it_loads_nothing() -> None:
    code = (
        "import sys, time; before = set(sys.modules); began = time.process_time(); import hdistill; "
        "print(time.process_time() - began); print(*(set(sys.modules) - before)); dir(hdistill)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests")
    seconds, modules = done.stdout.splitlines()
    tops = {name.split(".")[0] for name in modules.split()}
    assert tops - {"hdistill"} <= set(sys.stdlib_module_names)
    assert {name for name in modules.split() if name.startswith("hdistill")} == {"hdistill"}
    assert float(seconds) < 0.05


def test_type_checkers_see_what_is_there() -> None:
    """The imports under TYPE_CHECKING and the table of lazy imports are the same, and every name can be had."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        (alias.name, node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert seen == set(hdistill._MODULE_OF.items())
    for name in hdistill.__all__:
        assert name in dir(hdistill)
        assert getattr(hdistill, name) is getattr(hdistill, name)
    assert hdistill.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'lable'"):
        _ = hdistill.lable  # type: ignore[attr-defined]


def test_keyword_arguments_are_the_settings() -> None:
    """The typed keyword arguments of the door name every setting, with its type."""
    for options, settings, elsewhere in (
        (LabelOptions, LabelSettings, {"teacher", "subset"}),
        (FitOptions, FitSettings, set()),
    ):
        types = get_type_hints(options, localns=_typing_only())
        assert set(types) == {field.name for field in fields(settings)} - elsewhere
    assert set(ResumeOptions.__annotations__) == set(MAY_CHANGE)
    shown = inspect.signature(hdistill.fit).parameters
    assert shown["steps"].default == FitSettings().steps
    assert shown["recipe"].default is None


def _typing_only() -> dict[str, object]:
    from hdistill.data.format.codec import Codec
    from hdistill.trainer.choices import HessianNorm, ProductMethod, TargetKind

    return {"Codec": Codec, "HessianNorm": HessianNorm, "ProductMethod": ProductMethod, "TargetKind": TargetKind}


def options_of(*words: str) -> set[str]:
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return {p.name for p in command.params if p.name is not None}


COMMAND_LINE_ONLY = {"as_json", "quiet"}


def test_options_and_keyword_arguments_have_the_same_names() -> None:
    functions = {name: set(inspect.signature(function).parameters) for name, function in (
        *(("label", label), ("share", label_share), ("estimate", estimate), ("fit", hdistill.fit)),
        *(("resume", hdistill.resume), ("evaluate", hdistill.evaluate), ("md", hdistill.md), ("subset", hdistill.subset)),
    )}  # fmt: skip
    label_options = options_of("label") - COMMAND_LINE_ONLY - {"part", "dry_run"}
    assert label_options <= functions["label"]
    assert functions["estimate"] | functions["share"] <= functions["label"] | {"share"}
    assert options_of("fit") - COMMAND_LINE_ONLY - {"resume", "finish_in"} <= functions["fit"]
    assert "finish_in" in functions["resume"]
    assert options_of("evaluate") - COMMAND_LINE_ONLY <= functions["evaluate"]
    assert options_of("md") - COMMAND_LINE_ONLY - {"places"} <= functions["md"]
    assert options_of("labels", "subset") - COMMAND_LINE_ONLY - {"folder"} <= functions["subset"]


@pytest.mark.parametrize("command", ["label", "fit", "evaluate", "md", "labels", "teachers"])
def test_help_is_instant(command: str) -> None:
    began = time.process_time()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "hdistill.pipelines", command, "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert not loaded & {"torch", "h5py", "ase", "dask", "distributed", "matplotlib"}
    assert time.process_time() - began < 5
