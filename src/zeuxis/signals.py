"""SIGINT and SIGTERM as a wish to stop, so that a run can save first."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

SAME_SIGNAL_SECONDS = 1.0  # `make` and `timeout` pass on what the process group was sent already


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event instead of ending the process; a second one, later, ends it at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    kinds = [signal.SIGINT, signal.SIGTERM]
    before = {kind: signal.getsignal(kind) for kind in kinds}

    first = 0.0

    def note(number: int, frame: object) -> None:
        nonlocal first
        if not event.is_set():
            event.set()
            first = time.monotonic()
        elif time.monotonic() - first > SAME_SIGNAL_SECONDS:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    for kind in kinds:
        signal.signal(kind, note)
    try:
        yield event
    finally:
        for kind in kinds:
            signal.signal(kind, before[kind])
