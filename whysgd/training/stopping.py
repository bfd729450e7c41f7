"""Signals that ask a job to end: the step under way is finished and the state saved before it does."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from whysgd.errors import StopSignal

# SIGUSR1 is what schedulers are told to send before a time limit.
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class StopRequest:
    """Whether, and by which signal, this process was asked to end."""

    def __init__(self):
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def obey(self, what: str, saved: bool = True) -> None:
        """End the job.

        Args:
            what: was going on, for the message.
            saved: whether it can be continued from here.

        Raises:
            StopSignal: always.
        """
        kept = "saved; run it again to continue" if saved else "not saved by this process"
        raise StopSignal(f"{what}: ended by {signal.Signals(self.number).name}, {kept}", self.number)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within the block signals that ask to end are noted instead of obeyed, but for a second SIGINT.

    Schedulers send several; who types Ctrl-C again does not want to wait. A signal that was ignored before stays
    ignored (nohup). Outside the main thread, where Python has no signals, nothing is noted.
    """
    request, before = StopRequest(), {}

    def note(number, _frame):
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not request:
            print(f"{signal.Signals(number).name}: ending after this step", file=sys.stderr, flush=True)
            request.number = number

    try:
        for number in ASKING:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    except ValueError:
        pass
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
