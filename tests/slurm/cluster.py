"""A Slurm cluster of four nodes on this machine, for tests: `python tests/slurm/cluster.py COMMAND …` runs a command in it.

Everything that it writes lies in a new folder, which is removed at the end; ports are free ones; a Slurm, or munge, that
the machine may have is not touched. Nodes `a` and `b` belong to the partitions `cpu` and `gpu`, `c` and `d` to `frail`; each
has two cores and two GPUs, which are plain files. There is no accounting: what became of jobs is asked of `squeue`.
"""

import ctypes
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd")
NODES, CORES, GPUS, MEMORY_MB = ("a", "b", "c", "d"), 2, 2, 16000
START, STOP = 300.0, 60.0  # seconds after which a daemon counts as hung

CONFIG = """\
ClusterName=whysgd
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A job whose node failed starts again once what it was given to start with has expired, after two minutes by default.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
# Of a container that has no systemd and no cgroups of its own.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
# What a job asks for is counted, cores, memory and GPUs.
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
# A node that did not answer is used again once it does; one that was set down, once it is set back.
ReturnToService=1
SlurmdTimeout=20
KillWait=20
MinJobAge=600
{nodes}
PartitionName=cpu Nodes=a,b Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=a,b MaxTime=INFINITE State=UP
PartitionName=frail Nodes=c,d MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores} RealMemory={memory} Gres=gpu:{gpus}"
    " State=UNKNOWN"
)


class ClusterError(Exception):
    """What is missing, or did not start."""


def install() -> None:
    """Install Debian's packages if they are missing and this is root.

    Raises:
        ClusterError: they are missing, and cannot be installed.
    """
    if not (missing := _missing()):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ClusterError(f"{', '.join(missing)}: not installed; Debian has them in slurm-wlm and munge")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Its packages start daemons where there is an init system; those are not for us.
    packages = ["slurmctld", "slurmd", "slurm-client", "munge"]
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", "-qq", *command], check=True, env=environment, stdout=subprocess.DEVNULL)
    if missing := _missing():
        raise ClusterError(f"{', '.join(missing)}: not there after installing")


def _missing() -> list[str]:
    return [name for name in PROGRAMS if not _program(name)]


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for own in sockets:
        own.bind(("127.0.0.1", 0))
    ports = [own.getsockname()[1] for own in sockets]
    for own in sockets:
        own.close()
    return ports


def write_config(folder: Path) -> None:
    """slurm.conf and gres.conf of the cluster, and the files that stand for GPUs."""
    host, ports = socket.gethostname().split(".")[0], free_ports(1 + len(NODES))
    nodes = [
        NODE.format(name=name, host=host, port=port, cores=CORES, memory=MEMORY_MB, gpus=GPUS)
        for name, port in zip(NODES, ports[1:], strict=True)
    ]
    text = CONFIG.format(host=host, ports=ports, user=getpass.getuser(), folder=folder, nodes="\n".join(nodes))
    (folder / "slurm.conf").write_text(text)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    lines = []
    for name in NODES:
        for number in range(GPUS):
            (folder / f"gpu-{name}{number}").touch()
        lines.append(f"NodeName={name} Name=gpu File={folder}/gpu-{name}[0-{GPUS - 1}]")
    (folder / "gres.conf").write_text("\n".join(lines) + "\n")


def write_srun(folder: Path) -> None:
    """An srun that finds this cluster: Snakemake starts it without the variables of Slurm, SLURM_CONF among them."""
    (folder / "bin").mkdir()
    script = folder / "bin/srun"
    script.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    script.chmod(0o755)


@contextmanager
def cluster():
    """Start the daemons, and stop them at the end, whatever happened; gives the variables that make it the cluster.

    Raises:
        ClusterError: a program is missing or a daemon did not start.
    """
    install()
    folder = Path(tempfile.mkdtemp(prefix="whysgd-slurm-"))
    folder.chmod(0o755)  # munge wants a folder that others can see
    path = f"{folder}/bin{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    daemons: list[subprocess.Popen] = []
    try:
        for name in ("munge", "state", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir(mode=0o755)
        write_config(folder)
        write_srun(folder)
        key = folder / "munge/key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        _start_all(folder, environment, daemons)
        yield environment
    finally:
        _stop_all(folder, environment, daemons)
        shutil.rmtree(folder, ignore_errors=True)


def _start_all(folder: Path, environment: dict, daemons: list) -> None:
    munge = [
        f"--{name}={folder}/munge/{name.split('-')[0]}"
        for name in ("socket", "key-file", "log-file", "pid-file", "seed-file")
    ]
    commands = [
        (["munged", "--foreground", *munge], folder / "munge/socket"),
        (["slurmctld", "-D", "-c"], None),
        *((["slurmd", "-D", "-N", node], None) for node in NODES),
    ]
    for command, made in commands:
        name = "-".join([command[0], *(command[3:] if command[0] == "slurmd" else [])])
        with open(folder / f"{name}.out", "wb") as out:
            daemons.append(
                subprocess.Popen(
                    [_program(command[0]), *command[1:]], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    start_new_session=True, preexec_fn=_end_with_parent,
                )
            )  # fmt: skip
        if made and not wait_for(made.exists, START):
            raise ClusterError(_told(folder, f"{command[0]} did not start"))
    if not wait_for(lambda: node_states(environment) == dict.fromkeys(NODES, "idle"), START):
        raise ClusterError(_told(folder, "the nodes did not come up"))


def _end_with_parent() -> None:
    """Have the kernel end this daemon when who started it is gone, even if that was killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _told(folder: Path, problem: str) -> str:
    """What the daemons said last."""
    files = sorted([*folder.glob("*.out"), *folder.glob("*.log"), *folder.glob("munge/log")])
    ends = (file.read_text(errors="replace").splitlines()[-8:] for file in files)
    return "\n".join([problem, *("\n  ".join([file.name, *end]) for file, end in zip(files, ends, strict=True))])


def _stop_all(folder: Path, environment: dict, daemons: list) -> None:
    """Cancel the jobs, then stop the daemons, the last first."""
    with suppress(OSError, subprocess.TimeoutExpired):
        if len(daemons) > 1 and daemons[1].poll() is None:
            subprocess.run(["scancel", f"--user={os.geteuid()}"], env=environment, timeout=STOP, capture_output=True)
            wait_for(lambda: not run(["squeue", "--noheader"], environment), STOP)
    for daemon in reversed(daemons):
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(STOP)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def node_states(environment: dict) -> dict[str, str]:
    """The state of each node, without the marks for passing states."""
    found = {}
    for line in run(["sinfo", "--noheader", "--Node", "--format=%N %t"], environment).splitlines():
        name, state = line.split()
        found[name] = state.rstrip("*~#$@+^-")
    return found


def run(command: list[str], environment: dict) -> str:
    """What one of Slurm's commands prints; nothing if it fails, as it does while the cluster starts."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def wait_for(condition, seconds: float) -> bool:
    """Wait until a condition holds, or for so many seconds; returns whether it does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def main(command: list[str]) -> int:
    """Run a command in a cluster; SIGTERM ends both."""

    def ended(number, _frame):
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, ended)
    try:
        with cluster() as environment:
            return subprocess.run(command, env=environment).returncode
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: cluster.py COMMAND [ARGUMENT …]")
    sys.exit(main(sys.argv[1:]))
