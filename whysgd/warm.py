"""A warm worker: jobs without the seconds that Python needs to load torch, often more than a small training takes.

Where a workflow offers it (`offer`), its first job starts a server, which loads what jobs need and then forks a child
for each job. The process that the workflow started becomes the child's client: it hands over its streams, folder,
environment and arguments, passes signals on, and ends as the child ends. Nothing else differs from a job on its own:
the child goes on where its client would have gone on, in `whysgd.__main__`.

Who cannot have a warm worker does the job without one, and without a word: elsewhere than on Linux (forking without
exec is not safe with macOS's libraries), on another machine than the workflow's (Slurm), under torchrun, with another
interpreter, environment or user than the server's, or when a file of the package has changed since it was loaded.

This is the side of the jobs; `whysgd.warm_server` is the other.
"""

import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

VARIABLE = "WHYSGD_WARM"
SERVER = "warm-server"
# The commands that profit: for others the server has nothing loaded.
COMMANDS = ("train", "measure", "landscape")
# Of these, the server has one, so that it can fork; each job sets torch's own number.
THREADS = [f"{library}_NUM_THREADS" for library in ("OMP", "MKL", "OPENBLAS", "GOTO", "NUMEXPR")]
THREADS.append("VECLIB_MAXIMUM_THREADS")
# Variables in which jobs of one server may differ: nothing reads these, but for the above, when it is loaded.
OWN = {*THREADS, "CUDA_VISIBLE_DEVICES", "TMPDIR", "TMP", "TEMP", "TEMPDIR", "PWD", "OLDPWD", "SHLVL", "_"}
OWN.add("WHYSGD_CLAIMED_GPU")  # see whysgd.training.gpus
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# Seconds for the server to open its socket, and to take a job.
TO_OPEN, TO_TAKE = 5.0, 60.0
LARGEST = 1 << 20
TAKEN, REFUSED = b"taken", b"refused"
_exit_code: int | None = None


def offer(wanted: bool = True) -> None:
    """Let the jobs that this process starts share a warm worker, from the first that can use one until it ends.

    Args:
        wanted: False takes back an offer that this process inherited.
    """
    import atexit
    import secrets
    import shutil
    import tempfile

    os.environ.pop(VARIABLE, None)
    folder = Path(tempfile.gettempdir(), f"whysgd-warm-{secrets.token_hex(8)}")
    # A socket's path has at most 107 characters.
    if wanted and sys.platform == "linux" and len(os.fsencode(socket_of(folder))) < 108:
        os.environ[VARIABLE] = f"{os.getpid()}:{_process(os.getpid())[2]}:{folder}"
        # The server does this, too, unless it was killed.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def enter() -> None:
    """What `python -m whysgd` does first: become a client and end, or become the server.

    It returns in a process that is to do the job of its `sys.argv`: that of a job on its own, or a server's child.
    """
    if sys.argv[1:2] == [SERVER]:
        from whysgd.warm_server import serve

        serve(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
        if os.path.basename(sys.argv[0]) != "__main__.py":
            _run_script(sys.argv[0])
    elif VARIABLE in os.environ and sys.argv[1:2] and sys.argv[1] in COMMANDS and "WORLD_SIZE" not in os.environ:
        _hand_over(os.environ[VARIABLE])


def enter_script() -> None:
    """What a script of a workflow does first, before the imports that take seconds: as `enter`."""
    if VARIABLE in os.environ:
        _hand_over(os.environ[VARIABLE])


def _run_script(file: str) -> NoReturn:
    """Do the job of a script, in a server's child."""
    import runpy

    del os.environ[VARIABLE]  # Or it would hand itself over once more.
    runpy.run_path(file, run_name="__main__")
    leave(0)


def leave(code: int) -> NoReturn:
    """Exit with this code."""
    global _exit_code
    _exit_code = code
    sys.exit(code)


def skip_teardown() -> None:
    """The last exit function of a server's child: end here, not after taking apart, for a quarter second, what it got.

    A process that does not `leave`, because of an error say, takes the long way.
    """
    if _exit_code is None:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # Python has a message and a code for this.
    os._exit(_exit_code)


def _hand_over(offered: str) -> None:
    """Have the server do this process's job, and end with its exit code; return if it does not take it."""
    try:
        server = _taken(offered)
    except (OSError, ValueError):
        return
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    if server is None:
        return

    def pass_on(number, _frame):
        with suppress(OSError):
            server.send(bytes([number]))

    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)
    try:
        answer = server.recv(LARGEST)
    except OSError:
        answer = b""
    if not answer:
        print("error: the warm worker of this job was killed; run it again (or with warm: false)", file=sys.stderr)
        sys.exit(1)
    _end_like(int(answer))


def _taken(offered: str) -> socket.socket | None:
    """Send this job to the server; the connection on which it will tell the end, or None if it is not taken."""
    owner, started, folder = offered.split(":", 2)
    if not _descends_from(int(owner), started):
        return None
    server = _connect(Path(folder), owner, started)
    try:
        server.settimeout(TO_TAKE)
        socket.send_fds(server, [json.dumps(_request()).encode()], [0, 1, 2])
        if server.recv(LARGEST) == TAKEN:
            server.settimeout(None)
            return server
    except BaseException:
        server.close()
        raise
    # Closed, so that a server that is late does not take it any more.
    server.close()
    return None


def _end_like(code: int) -> None:
    """Exit with a child's code, or die of the signal that it died of (a negative code)."""
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # SIGKILL has no handler to take away.
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code if code >= 0 else 128 - code)


def _connect(folder: Path, owner: str, started: str) -> socket.socket:
    """A connection to the server of a folder, which is started if there is none yet; else OSError."""
    try:
        folder.mkdir(mode=0o700)
        _start(folder, owner, started)
    except FileExistsError:
        pass
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder}: must be a private folder")
    # It is about to open, or it never will. The folder's age alone would not do: the clock may have been set back.
    patience = time.monotonic() + TO_OPEN
    while not os.path.exists(socket_of(folder)) and time.time() - status.st_mtime < TO_OPEN:
        if time.monotonic() > patience:
            break
        time.sleep(0.01)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(socket_of(folder))
    except OSError:
        connection.close()
        raise
    return connection


def _start(folder: Path, owner: str, started: str) -> None:
    """Start a server that is not a child of this job: who measures the job's processes does not count it."""
    import subprocess

    command = [sys.executable, "-m", "whysgd", SERVER, str(folder), owner, started]
    # As this process found it, or a C locale that Python has replaced would count as another one for the server.
    inherited = Path("/proc/self/environ").read_bytes().split(b"\0")
    environment = dict(entry.split(b"=", 1) for entry in inherited if b"=" in entry)
    environment.update((name.encode(), b"1") for name in THREADS)
    nothing = subprocess.DEVNULL
    between = os.fork()
    if not between:
        with suppress(OSError):
            subprocess.Popen(
                command, env=environment, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
            )
        os._exit(0)
    os.waitpid(between, 0)


def _request() -> dict:
    """All that makes a job this one."""
    mask = os.umask(0)
    os.umask(mask)
    ignored = [int(number) for number in PASSED_ON if signal.getsignal(number) == signal.SIG_IGN]
    return {
        "identity": identity(), "environment": dict(os.environ), "folder": os.getcwd(), "umask": mask,
        "arguments": sys.argv, "original": sys.orig_argv, "path": sys.path, "ignored": ignored,
    }  # fmt: skip


def identity() -> list:
    """What must be the same for a server and its jobs: user, interpreter, environment, and the package's files.

    A file counts as the same as long as its inode, size and times are: this takes a millisecond.
    """
    package = Path(__file__).resolve().parent
    files = sorted((str(file), file.stat()) for file in package.rglob("*.py"))
    environment = {name: value for name, value in sorted(os.environ.items()) if name not in OWN}
    return [
        os.getuid(), os.getgid(), sys.executable, sys.prefix, sys.version, list(sys.flags), sys.warnoptions,
        environment, [[name, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns] for name, at in files],
    ]  # fmt: skip


def socket_of(folder: Path) -> str:
    """Where the server of a folder listens."""
    return str(folder / "socket")


def _process(pid: int) -> tuple[str, int, str]:
    """State, parent and starting time of a process; OSError if there is none."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[1]), fields[19]


def is_running(pid: int, started: str) -> bool:
    """Whether the process of this number is the one that started then, and has not ended."""
    try:
        state, _, start = _process(pid)
    except OSError:
        return False
    return start == started and state not in "ZX"


def _descends_from(owner: int, started: str) -> bool:
    """Whether a running process is an ancestor of this one: not so if a scheduler's daemon started the job."""
    pid = os.getpid()
    while pid > 1 and pid != owner:
        pid = _process(pid)[1]
    return pid == owner and is_running(owner, started)
