"""The command line: one file per verb. The only place that prints or exits; heavy imports wait inside the verbs."""

from __future__ import annotations

import time

STARTED = time.monotonic()  # a budget counts from here, before anything heavy is loaded

import sys  # noqa: E402

import typer  # noqa: E402

from zeuxis.cli import data, demo, evaluate, info, sample, train  # noqa: E402

app = typer.Typer(
    name="zeuxis",
    help="Train, judge, edit and serve image generators on your own pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("evaluate")(evaluate.evaluate)
app.command("info")(info.info)


def main() -> None:
    """Runs the command line; a user's mistake is one line and exit code 2, a fault in a run one line and exit code
    1."""
    from zeuxis.errors import ZeuxisError

    try:
        app()
    except ZeuxisError as error:
        print(f"zeuxis: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("zeuxis: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
