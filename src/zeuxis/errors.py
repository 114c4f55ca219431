"""The errors that a user of Zeuxis can meet, each one line that names option, value, allowed values and the next
step."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` without what could steer a terminal: names of files, classes and members come from strangers."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def shortened(text: str, most: int = 800) -> str:
    """`text` cut to `most` characters: a stranger's file must not fill the screen."""
    return text if len(text) <= most else f"{text[:most]}..."


class ZeuxisError(Exception):
    """Base of every error that Zeuxis raises on purpose; its text is one line, fit for a terminal."""

    exit_code = 1


class UserError(ZeuxisError):
    """A mistake in what was asked for: names the option, the value, what is allowed and the next step.

    Args:
        option: What was set, as the user wrote it (`--resolution`, `--set network.width`, a file's path).
        got: The value that was given.
        allowed: What would be accepted, in words or as the list of choices.
        next_step: What to do now; a command where there is one.
    """

    exit_code = 2

    def __init__(self, option: str, got: object, allowed: str, next_step: str = "") -> None:
        self.option, self.got, self.allowed, self.next_step = option, got, allowed, next_step
        text = f"{shortened(option)}: got {shortened(repr(got))}, allowed: {shortened(allowed)}"
        super().__init__(printable(f"{text}; {shortened(next_step)}" if next_step else text))


class DataError(UserError):
    """The data cannot be trained on or judged (missing, unreadable, too few pictures left)."""


class StateError(ZeuxisError):
    """A resume state or model folder is torn, foreign or from another version."""


class RunFault(ZeuxisError):
    """Something broke during a run (full disk, non-finite steps in a row); what was saved stays intact."""
