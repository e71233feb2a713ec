"""The command line. Only click is imported here; each command imports what it needs when it runs, so --help is instant."""

from __future__ import annotations

import click

from . import clusters, distill, export, fit, judge, label, labels, listings, md, sample
from .command import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="hdistill")
def main() -> None:
    """Distil a foundation model for atoms into a small, fast force field.

    \b
      hdistill distill si.cif --teacher 7net-0 --temperature 300,900 -o si/

    or step by step:

    \b
      hdistill label --teacher 7net-0 --subset my.xyz -o labels/
      hdistill fit labels/ -o run/
      hdistill evaluate run/ labels/
    """


COMMANDS = (
    *(distill.distill, sample.sample, label.label, fit.fit, judge.evaluate, md.md, export.export, labels.labels),
    *(listings.teachers, listings.students, listings.subsets, clusters.clusters, listings.doctor, listings.demo),
)
for _command in COMMANDS:
    main.add_command(_command)
