"""The server of warm workers; see `whysgd.warm`.

It ends, and its children with it, when the process that made the offer is gone, or when it gets SIGTERM. It has one
thread and never starts CUDA: neither other threads nor CUDA survive a fork.

Each client has a connection of its own. It sends its job with its streams; "taken" comes from the child that does it,
then from the server the child's exit code (negative: the signal that ended it). In between a client may send numbers
of signals, and a client that is gone has its child ended.
"""

import atexit
import ctypes
import gc
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from whysgd.codedigest import code_digest
from whysgd.measures.catalog import MEASURES
from whysgd.warm import LARGEST, PASSED_ON, REFUSED, TAKEN, identity, is_running, skip_teardown, socket_of

# What jobs need.
MODULES = (
    "whysgd.training.device",
    "whysgd.training.gpus",
    "whysgd.training.loop",
    "whysgd.measures.landscape_part",
    *(f"whysgd.measures.{name}" for name in MEASURES),
)
# What the scripts of the workflow need, too; without Snakemake there are none.
OF_SCRIPTS = ("whysgd.reporting.figures", "whysgd.reporting.page", "snakemake.script")
# Torch loads its own when a layer with second derivatives, or vmap, is first used: 0.3 and 0.6 seconds.
OTHERS = ("torch.fx.experimental.symbolic_shapes", "torch._dynamo")
# Seconds between looks for the owner, and for a child to end when it is asked to.
PAUSE, GRACE = 0.25, 5.0
PR_SET_PDEATHSIG = 1


@dataclass
class _Job:
    """A client, and the child that does its job."""

    client: socket.socket
    pid: int = 0  # 0 as long as it has not asked for anything
    kill_at: float = float("inf")  # when the child of a client that is gone has had time enough to end


def serve(folder: Path, owner: int, started: str) -> None:
    """Be the server until the owner is gone, then exit; return in each child, which is to do the job of `sys.argv`.

    Args:
        folder: private, for the socket; removed in the end.
        owner: the process to outlive by no more than a moment.
        started: its starting time, see `whysgd.warm.is_running`.
    """
    server = os.getpid()
    atexit.register(skip_teardown)  # The first that is registered is the last that runs.
    try:
        _fork_jobs(folder, owner, started)
    finally:
        if os.getpid() == server:
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)


def _fork_jobs(folder: Path, owner: int, started: str) -> None:
    """Listen, load, and fork; return when the owner is gone or, in a child, when it has taken its job."""
    server, stop = os.getpid(), []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # A child's end ends the wait for clients.
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)

    listener = _listen(folder)
    mine = _load()
    jobs: list[_Job] = []
    with selectors.PollSelector() as selector:
        for place in (listener, wake):
            selector.register(place, selectors.EVENT_READ)
        while not stop and is_running(owner, started):
            for key, _ in selector.select(PAUSE):
                if key.fileobj is listener:
                    client, _ = listener.accept()
                    selector.register(client, selectors.EVENT_READ, _Job(client))
                elif key.fileobj is wake:
                    wake.recv(LARGEST)
                elif key.data.pid:
                    _listen_to(key.data, selector)
                else:
                    request, streams = _receive(key.data.client)
                    if not request or mine is None or request["identity"] != mine:
                        _dismiss(key.data, selector, REFUSED)
                    elif _fork(key.data):
                        jobs.append(key.data)
                    else:
                        for other in list(selector.get_map().values()):
                            if other is not key:
                                other.fileobj.close()
                        waker.close()
                        return _become(request, streams, key.data.client, server)
                    for stream in streams:
                        os.close(stream)
            jobs = [job for job in jobs if not _ended(job, selector)]
    _end(jobs)
    return None


def _listen(folder: Path) -> socket.socket:
    """The open socket; under its name only when it can be connected to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(folder / "new"))
    listener.listen(1024)
    os.rename(folder / "new", socket_of(folder))
    return listener


def _load() -> list | None:
    """Import what jobs need; the identity of the jobs that can have it, or None if none can."""
    before, environment = identity(), dict(os.environ)
    try:
        modules = (*MODULES, *(OF_SCRIPTS if find_spec("snakemake") else ()))
        for module in (*modules, *OTHERS):
            import_module(module)
        code_digest(*(module for module in modules if module.startswith("whysgd.")))  # It remembers what it has read.
        # Torch's compiler names its cache in the environment; each job has its own.
        os.environ.clear()
        os.environ.update(environment)
    except Exception:
        return None  # Each job will say it in its own log.
    if identity() != before or len(os.listdir("/proc/self/task")) > 1:
        return None
    # Collections in a child would otherwise copy the pages of all that is loaded.
    gc.collect()
    gc.freeze()
    return json.loads(json.dumps(before))


def _receive(client: socket.socket) -> tuple[dict | None, list[int]]:
    """A job and its three streams; None if what came is none."""
    streams: list[int] = []
    try:
        message, streams, _, _ = socket.recv_fds(client, LARGEST, 3)
        request = json.loads(message)
    except (OSError, ValueError):
        return None, streams
    return request if len(streams) == 3 else None, streams


def _fork(job: _Job) -> bool:
    """Fork a child, with all signals blocked; False in the child."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    job.pid = os.fork()
    if job.pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return bool(job.pid)


def _become(request: dict, streams: list[int], client: socket.socket, server: int) -> None:
    """Turn a fresh child into the process that its client would have been, or end it before the client relies on it."""
    try:
        # The kernel ends it with the server, however that ends.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        for number in (*PASSED_ON, signal.SIGCHLD):
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if number in request["ignored"] else usual)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
            os.close(stream)
        sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
        os.chdir(request["folder"])
        os.umask(request["umask"])
        os.environ.clear()
        os.environ.update(request["environment"])
        tempfile.tempdir = None
        sys.argv, sys.orig_argv, sys.path[:] = request["arguments"], request["original"], request["path"]
        client.send(TAKEN)
        client.close()
    except Exception:
        os._exit(1)


def _listen_to(job: _Job, selector: selectors.BaseSelector) -> None:
    """Pass on a signal; if the client is gone, ask the child to end."""
    try:
        message = job.client.recv(LARGEST)
    except OSError:
        message = b""
    if message:
        os.kill(job.pid, message[0])
        return
    os.kill(job.pid, signal.SIGTERM)
    job.kill_at = time.monotonic() + GRACE
    _dismiss(job, selector)


def _ended(job: _Job, selector: selectors.BaseSelector) -> bool:
    """Whether a child has ended; if so, its client has been told. One whose time is up is killed."""
    pid, status = os.waitpid(job.pid, os.WNOHANG)
    if pid:
        _dismiss(job, selector, str(os.waitstatus_to_exitcode(status)).encode())
    elif time.monotonic() > job.kill_at:
        os.kill(job.pid, signal.SIGKILL)
    return bool(pid)


def _dismiss(job: _Job, selector: selectors.BaseSelector, message: bytes = b"") -> None:
    """Send a client a last message, and forget it."""
    if job.client.fileno() < 0:
        return
    with suppress(OSError):
        if message:
            job.client.send(message)
    selector.unregister(job.client)
    job.client.close()


def _end(jobs: list[_Job]) -> None:
    """End all children; their clients find themselves alone."""
    for job in jobs:
        os.kill(job.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for job in jobs:
        while not os.waitpid(job.pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(job.pid, signal.SIGKILL)
            time.sleep(0.01)
