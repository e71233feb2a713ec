"""`python -m hdistill.pipelines` is the same as `hdistill`."""

from .cli.main import main

main(prog_name="hdistill")
