"""The part of the command `study` that is about the group: who presents what, when we meet, is this machine ready."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studylib.cli.terminal import now, plain_errors, show
from studylib.errors import StudyError

if TYPE_CHECKING:
    from studylib.course.course import Course

app = typer.Typer()
group = typer.Typer(help="Begin a run of the course of your own.", no_args_is_help=True)
app.add_typer(group, name="group")

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="A topic's folder, such as resnext.")]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Who; the name in git's configuration if left out.")]


@app.command()
def claim(
    topic: Topic,
    name: Name = "",
    second: Annotated[str, typer.Option("--with", metavar="NAME", help="A second who shares the topic.")] = "",
) -> None:
    """Take a topic: you read its papers and present them.

    Writes the topic's topic.toml; commit and push that file. A claim lapses after two weeks without a change in the
    topic's folder.
    """
    from studylib import course
    from studylib.course import claims

    with plain_errors():
        everything = course.load()
        person = name or claims.git_name(everything.root)
        typer.echo(claims.claim(everything, topic, person, now(), second))
        known = [participant.name for participant in everything.group.participants]
        for stranger in [who for who in (person, second) if who and who not in known]:
            typer.echo(f"# {stranger} is not among the participants in group.toml yet", err=True)
        _tell_the_others(everything, "Claim", topic)


@app.command()
def release(topic: Topic, name: Name = "") -> None:
    """Give a topic back; where two share it, the other one keeps it."""
    from studylib import course
    from studylib.course import claims

    with plain_errors():
        everything = course.load()
        typer.echo(claims.release(everything, topic, name or claims.git_name(everything.root), now()))
        _tell_the_others(everything, "Release", topic)


@app.command("claims")
def list_claims(
    codeowners: Annotated[
        bool, typer.Option("--codeowners", help="Write .github/CODEOWNERS from the claims, on main, after merging.")
    ] = False,
) -> None:
    """Show every topic: who has it, until when the claim holds, and how many questions its notes answer."""
    from studylib import course
    from studylib.course import claims, tables

    with plain_errors():
        everything = course.load()
        if codeowners:
            changed = claims.write_codeowners(everything)
            typer.echo(f"{claims.CODEOWNERS.as_posix()}: {'written' if changed else 'unchanged'}")
            return
        if claims.is_shallow(everything.root):
            typer.echo("# this clone lacks its history, so no claim lapses here: git fetch --unshallow", err=True)
        show(tables.all_claims(everything, now()))


@app.command()
def schedule(
    ics: Annotated[
        Path | None, typer.Option("--ics", metavar="FILE", help="Write the meetings as a calendar to import.")
    ] = None,
) -> None:
    """Show all meetings with their topics and presenters, this week's marked."""
    from studylib import course, files
    from studylib.course import ics as calendars
    from studylib.course import tables

    with plain_errors():
        everything = course.load()
        if ics is None:
            show(tables.schedule(everything, now()))
            return
        if ics.is_dir():
            raise StudyError(f"--ics is {str(ics)!r}, a folder: name a file, such as meetings.ics")
        content = calendars.calendar(everything, now())
        if not ics.parent.is_dir():
            raise StudyError(f"--ics is {str(ics)!r}, and there is no folder {str(ics.parent)!r}: make it first")
        files.replace(ics, content)
        typer.echo(f"wrote {ics}")


@app.command()
def sheet(
    week: Annotated[str, typer.Argument(metavar="WEEK", help="A week by number or folder.")],
    live: Annotated[
        bool, typer.Option("--live", help="Count down part by part; start it when the meeting does.")
    ] = False,
    begin: Annotated[
        str, typer.Option("--from", metavar="H:MM", help="With --live: how far the meeting is already.")
    ] = "",
    load: Annotated[
        bool, typer.Option("--load", help="Show also the minutes that each part's text, code and gaps ask for.")
    ] = False,
) -> None:
    """Show the run sheet of a meeting on one page."""
    from rich.console import Console

    from studylib import course
    from studylib.course import countdown, tables

    with plain_errors():
        everything = course.load()
        chosen = everything.week(week)
        if begin and not live:
            raise StudyError("--from goes with --live")
        if live and load:
            raise StudyError("give --live or --load, not both")
        if load:
            from studylib.course import form, loads

            show(loads.table(chosen, loads.of_week(chosen), form.faults(chosen)))
        elif live:
            countdown.run(chosen, Console(), countdown.parse(begin or "0"))
        else:
            typer.echo(tables.page(everything, chosen, now()))


@app.command("next")
def coming() -> None:
    """Show the next meeting: when, where, what to read, which topics are free; and what you have still to answer."""
    from contextlib import suppress

    from studylib import course
    from studylib.course import claims, tables

    with plain_errors():
        everything, person = course.load(), ""
        with suppress(StudyError):  # without git or a name, nobody's topics are shown
            person = claims.git_name(everything.root)
        show(tables.coming(everything, person, now()))


@app.command()
def update() -> None:
    """Take over what is new in the course.

    What you have not changed becomes the course's newest version. A notebook that you ran and the course has changed is
    put away in mine/, and your files in exercises/ stay as they are.
    """
    from studylib import files
    from studylib.course import update as updating

    with plain_errors():
        updating.update(files.ROOT, now().date(), typer.echo)


@app.command()
def doctor() -> None:
    """Look whether this machine has what the course needs, and say what to do.

    Takes about ten seconds. The exit status is 1 if something does not work.
    """
    from studylib import files
    from studylib.course import doctor as checks

    with plain_errors():
        problems = 0
        for finding in checks.findings(files.ROOT):
            typer.echo(str(finding))
            problems += finding.level == "problem"
        if problems:
            raise typer.Exit(1)


@app.command("new-week")
def new_week(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits and _, such as compression.")],
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="What the meeting is about.")] = "",
    topics: Annotated[
        list[str] | None, typer.Option("--topic", metavar="NAME", help="A topic's folder; may be repeated.")
    ] = None,
) -> None:
    """Make the next week: run sheet, notebook, a folder a topic. It passes every check as it is; then make it yours.

    Executes the new notebook once, which takes some seconds.
    """
    from studylib import course
    from studylib.course import meeting
    from studylib.course import new_week as making

    with plain_errors():
        everything = course.load()
        folder = making.make(everything, name, title, topics or [])
        made = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in [*made, meeting.place(everything.root, folder.name)]:
            typer.echo(f"wrote {path.relative_to(everything.root)}")


@group.command("init")
def init(
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="The group's name.")] = "",
    start: Annotated[
        datetime.datetime | None,
        typer.Option("--start", metavar="YYYY-MM-DD", formats=["%Y-%m-%d"], help="The day of the first meeting."),
    ] = None,
    participants: Annotated[
        list[str] | None,
        typer.Option("--participant", metavar="NAME", help='A participant, such as "Ada Lovelace"; may be repeated.'),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Empty the claims, dates and participants, so that your group begins its own run of the course."""
    from studylib import course
    from studylib.course import new_run

    with plain_errors():
        everything = course.load()
        changes = new_run.changes(everything, title, start.date() if start else None, participants or [])
        if not changes:
            typer.echo("there is nothing to change")
            return
        for path in changes:
            typer.echo(path.relative_to(everything.root))
        if not yes and not typer.confirm("Change these files? Git keeps what is committed", err=True):
            typer.echo("study: nothing is changed", err=True)
            raise typer.Exit(1)
        new_run.write(everything.root, changes)
        typer.echo("A new run begins: see group.toml, then study schedule")


def _tell_the_others(everything: "Course", what: str, topic: str) -> None:
    path = everything.topic(topic).file.relative_to(everything.root)
    typer.echo(f"# to tell the others: git commit -m '{what} {topic}' {path}, and push", err=True)
