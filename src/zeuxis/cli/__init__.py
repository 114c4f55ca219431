"""The command line: one file per verb. The only place that prints or exits; heavy imports wait inside the verbs."""

from __future__ import annotations

import time

STARTED = time.monotonic()  # a budget counts from here, before anything heavy is loaded

import io  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from typing import Annotated, Any  # noqa: E402

import typer  # noqa: E402

from zeuxis import __version__  # noqa: E402
from zeuxis.cli import (  # noqa: E402
    compare,
    compose,
    cubemap,
    data,
    demo,
    directions,
    encoder,
    evaluate,
    export,
    info,
    inpaint,
    interpolate,
    launch,
    mix,
    plan,
    predict,
    project,
    reconstruct,
    sample,
    score,
    train,
    tune_ema,
)

app = typer.Typer(
    name="zeuxis",
    help="Train, judge, edit and serve image generators on your own pictures.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # help texts have square brackets that are meant, and plain help comes twice as fast
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 110},
)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.command("plan")(plan.plan)
app.command("train")(train.train)
app.command("tune-ema")(tune_ema.tune_ema)
app.command("sample")(sample.sample)
app.command("interpolate")(interpolate.interpolate)
app.command("mix")(mix.mix)
app.command("compose")(compose.compose)
app.command("project")(project.project)
app.command("inpaint")(inpaint.inpaint)
app.command("outpaint")(inpaint.outpaint)
app.command("directions")(directions.directions)
app.command("encoder")(encoder.encoder)
app.command("predict")(predict.predict)
app.command("reconstruct")(reconstruct.reconstruct)
app.command("score")(score.score)
app.command("cubemap")(cubemap.cubemap)
app.command("export")(export.export)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("info")(info.info)

UsageError: Any = typer.BadParameter.__base__  # typer gives no other name for it, and brings click along or within


def show_version(asked: bool) -> None:
    """Prints the version and leaves."""
    if asked:
        print(f"zeuxis {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train, judge, edit and serve image generators on your own pictures."""


def share_cores() -> None:
    """On a machine that is busy already, lets threads that wait for each other sleep soon instead of spinning.

    A thread of a matrix product waits a millisecond at full speed for the others before it sleeps. Where two programs
    share the cores, the one waits for what the other keeps from running, and small networks train many times slower.
    On a free machine it is spinning that is faster, so only busy ones do without. Must run before torch is loaded.
    """
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.75 * (os.cpu_count() or 1):
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


INTERRUPTED = 130


def main() -> None:
    """Runs the command line and leaves with its exit code."""
    if "RANK" in os.environ and (said := launch.said_code()) is not None:
        sys.exit(said)  # another process of this launch has come to an end on purpose: nothing to begin again
    share_cores()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that a terminal's encoding lacks is no reason to stop
            stream.reconfigure(errors="replace")
    try:
        code = run()
        launch.say_code(code)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains as it leaves
        code = 141
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said and done: one more Ctrl-C only spoils the last lines
    if launch.started_by_us() or code == INTERRUPTED:
        # CPython ends by the signal itself, whatever was caught, where a Ctrl-C fell into the import of a library.
        # Everything is on the disk. The libraries that spoke to other processes have threads of their own, one of which
        # can abort a process that has done its work as the interpreter takes itself apart; torchrun would begin again.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run() -> int:
    """The exit code of the command line; a user's mistake is one line and 2, a fault in a run or of the machine one
    line and 1."""
    from zeuxis.errors import ZeuxisError

    try:
        return app(prog_name="zeuxis", standalone_mode=False) or 0
    except UsageError as error:
        return usage(error)
    except ZeuxisError as error:
        return complain(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder that may not be written: nothing that a traceback explains
        place = f"{error.filename}: " if error.filename else ""
        return complain(f"{place}{error.strerror or error}", 1)
    except MemoryError as error:
        return complain(f"out of memory: ask for fewer or smaller pictures at once ({error})", 1)


def complain(text: str, code: int) -> int:
    """Says one line on standard error; returns `code`. Of several processes on a machine the first one says it, unless
    it is that one of them was lost."""
    if os.environ.get("LOCAL_RANK", "0") == "0" or code == launch.LOST:
        print("zeuxis: " + " ".join(text.split()), file=sys.stderr)
    return code


def usage(error: Any) -> int:
    """One line about a wrong command line: option, value, what is allowed, and where help is; returns the exit
    code."""
    command = error.ctx.command_path if error.ctx else "zeuxis"
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.ctx.get_help())
        return 0
    text = error.format_message().rstrip(".")
    given = _given(getattr(error, "param", None), sys.argv)
    if given and given not in text:
        text += f", got {given!r}"
    verbs = getattr(error.ctx.command if error.ctx else None, "commands", None)
    if verbs and text.startswith("No such command"):
        text += f", allowed: {', '.join(verbs)}"
    return complain(f"{text}; see `{command} --help`", error.exit_code)


def _given(param: Any, arguments: list[str]) -> str | None:
    """What stood behind the option `param`, as far as can be told from the command line."""
    for name in getattr(param, "opts", []):
        for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
            if argument == name:
                return following
            if argument.startswith(f"{name}="):
                return argument.removeprefix(f"{name}=")
    return None
