"""The command `study`: notebooks, costs, the papers' numbers, the GPU exercises, and the group."""

import typer

from studylib.cli import exercises, group, notebooks, numbers

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (notebooks, numbers, exercises, group):
    app.add_typer(commands.app)
