"""Warm workers: a job done by one is the same job, and whatever is killed, nothing is left behind.

Most tests run a copy of the package in which training is a stub that executes a given script: it loads at once.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, make_spec
from test_loop import assert_equal_results, folder_of, results

from whysgd import warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="warm workers need Linux")
SPEC = json.dumps(make_spec().to_dict())
STUBS = {
    "device": "def prepare_device(*_):\n    pass\n",
    "gpus": "def claim_gpu():\n    pass\n",
    "loop": "def train_runs(specs, data, *_, **__):\n    exec(compile(data.read_text(), 'job', 'exec'), {})\n",
}
LOADED = [f"whysgd.training.{name}" for name in STUBS]


def stub_project(folder):
    """A copy of the package whose training executes the file that is given as --data."""
    shutil.copytree(ROOT / "whysgd", folder / "whysgd", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in STUBS.items():
        (folder / "whysgd/training" / f"{name}.py").write_text(text)
    server = folder / "whysgd/warm_server.py"
    text = re.sub(r"^MODULES = \(.*?^\)", f"MODULES = {LOADED}", server.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(OTHERS|OF_SCRIPTS) = \(.*?\)$", r"\1 = ()", text, flags=re.MULTILINE)
    server.write_text(text.replace("GRACE = 0.25, 5.0", "GRACE = 0.25, 0.5"))
    return folder


class Workflow:
    """A process that has made the offer, as Snakemake would be, and the jobs it starts; here it is that of the tests."""

    def __init__(self, folder, code=ROOT):
        self.folder, self.code = folder, code
        before = os.environ.get(warm.VARIABLE)
        warm.offer()
        self.offered = os.environ.pop(warm.VARIABLE)
        if before:
            os.environ[warm.VARIABLE] = before
        self.private = Path(self.offered.split(":", 2)[2])

    def start(self, *command, warm_worker=True, program=("-m", "whysgd"), **options):
        environment = {**os.environ, "PYTHONPATH": str(self.code), **options.pop("variables", {})}
        for name in ("PYTEST_CURRENT_TEST", "PYTHONUNBUFFERED"):  # The first is another one in each test.
            environment.pop(name, None)
        if warm_worker:
            environment[warm.VARIABLE] = self.offered
        options = {
            "cwd": self.folder,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **options,
        }
        return subprocess.Popen(
            [sys.executable, *map(str, program), *map(str, command)], env=environment, text=True, **options
        )  # fmt: skip

    def script(self, text, **options):
        """Start a job of the stub that executes this."""
        file = self.folder / f"script-{time.monotonic_ns()}.py"
        file.write_text(text)
        return self.start("train", "--spec", SPEC, "--device", "cpu", "--data", file, **options)

    def server(self):
        found = processes(f"{warm.SERVER}\0{self.private}\0")
        return next((pid for pid in found if parent(pid) not in found), None)

    def end(self):
        if server := self.server():
            os.kill(server, signal.SIGTERM)
            until(lambda: not alive(server))
        shutil.rmtree(self.private, ignore_errors=True)


def processes(text):
    """Processes, dead ones left out, with this in their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (place / "cmdline").read_bytes() and alive(int(place.name)):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def parent(pid):
    return warm._process(pid)[1]


def alive(pid):
    try:
        return warm._process(pid)[0] not in "ZX"
    except OSError:
        return False


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


def outcome(process):
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stub")
    workflow = Workflow(folder, stub_project(folder))
    yield workflow
    workflow.end()


@pytest.fixture
def own(tmp_path):
    """As `stub`, for one test alone."""
    workflow = Workflow(tmp_path, stub_project(tmp_path))
    yield workflow
    workflow.end()


WHERE = "import os; print(os.getppid())"


def is_warm(workflow, process):
    code, output, errors = outcome(process)
    assert (code, errors) == (0, "")
    return int(output.split()[0]) == workflow.server()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_has_the_same_bits(dataset, tmp_path, threads):
    workflow, data = Workflow(tmp_path), folder_of(dataset, tmp_path / "data")
    spec = json.dumps(make_spec(epochs=1, evaluations=1).to_dict())
    command = ["train", "--spec", spec, "--data", data, "--device", "cpu", "--threads", threads]
    variables = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    try:
        process = workflow.start(*command, "--out", "warm", variables=variables)
        server = until(workflow.server)
        child = until(lambda: children(server))
        code, output, errors = outcome(process)
        assert (code, output) == (0, ""), errors
        assert len(child) == 1
        assert outcome(workflow.start(*command, "--out", "cold", variables=variables, warm_worker=False))[0] == 0
        assert_equal_results(results(tmp_path / "warm"), results(tmp_path / "cold"))
        assert {file.name for file in (tmp_path / "warm").iterdir()} == {
            file.name for file in (tmp_path / "cold").iterdir()
        }
    finally:
        workflow.end()


SAME = {
    "success": "print('done')",
    "both streams in order": "import sys; print('a', flush=True); print('b', file=sys.stderr); print('c')",
    "environment, folder and mask": "import os; print(sorted(set(os.environ.items()) - {('WHYSGD_WARM', os.getenv('WHYSGD_WARM'))}), os.getcwd(), os.umask(0))",
    "arguments and path": "import sys; print(sys.argv[1:4], sys.orig_argv[1:4], sys.path, sys.flags, sys.stdout)",
    "signals": "import signal; print([signal.getsignal(n) for n in sorted(signal.valid_signals())], signal.pthread_sigmask(0, []))",
    "open files": "import os; print(len(os.listdir('/proc/self/fd')))",
    "a line that is not ended": "print('a', end='')",
    "streams that are closed": "import sys; sys.stdout.close()",
    "exit function": "import atexit; atexit.register(print, 'bye')",
    "input": "print(input())",
    "traceback": "raise ValueError('a bug')",
    "a user's error": "from whysgd.errors import UserError; raise UserError('one line')",
    "exit code": "import sys; sys.exit(3)",
    "exit message": "import sys; sys.exit('why')",
    "exit at once": "import os; os._exit(4)",
    "interrupt": "raise KeyboardInterrupt",
    "segmentation fault": "import os, resource, signal; resource.setrlimit(4, (0, 0)); os.kill(os.getpid(), signal.SIGSEGV)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
}  # fmt: skip


@pytest.mark.parametrize("script", SAME.values(), ids=SAME.keys())
def test_a_job_cannot_tell_nor_can_who_waits_for_it(stub, tmp_path, script):
    (tmp_path / "in").write_text("what was piped in\n")
    file = tmp_path / "script.py"
    file.write_text(script)
    outcomes = []
    for warm_worker in (False, True):
        with open(tmp_path / "in") as lines:
            process = stub.start(
                "train", "--spec", SPEC, "--device", "cpu", "--data", file, warm_worker=warm_worker, cwd=tmp_path, stdin=lines,
                stderr=subprocess.STDOUT, variables={"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "3"}, umask=0o027,
            )  # fmt: skip
            code, output, _ = outcome(process)
        outcomes.append((code, output))
    assert outcomes[0] == outcomes[1]
    assert is_warm(stub, stub.script(WHERE))
    assert children(stub.server()) == []


SCRIPTS = (
    "success",
    "environment, folder and mask",
    "exit function",
    "a line that is not ended",
    "exit code",
    "killed",
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_hands_itself_over_before_its_imports(stub, tmp_path, name):
    file = tmp_path / "script.py"
    text = "import sys; print(sys.argv, __name__, __file__ == sys.argv[0])"
    file.write_text(f"from whysgd.warm import enter_script\n\nenter_script()\n{text}\n{SAME[name]}\n")
    cold, warm_ = (
        outcome(stub.start(program=[file], warm_worker=warm_worker, cwd=tmp_path)) for warm_worker in (False, True)
    )
    assert cold == warm_
    file.write_text(f"from whysgd.warm import enter_script\n\nenter_script()\n{WHERE}\n")
    assert is_warm(stub, stub.start(program=[file]))


@pytest.mark.parametrize("arguments", [("train",), ("train", "--sede", "1"), ("train", "--spec", "{}")])
def test_mistakes_are_the_same(stub, arguments):
    assert outcome(stub.start(*arguments)) == outcome(stub.start(*arguments, warm_worker=False))


def test_two_jobs_run_at_once(stub, tmp_path):
    script = "import os, time\nopen({!r}, 'w')\nwhile not os.path.exists({!r}): time.sleep(0.01)\nprint(os.getppid())"
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    jobs = [stub.script(script.format(one, two)), stub.script(script.format(two, one))]
    assert [is_warm(stub, job) for job in jobs] == [True, True]


def test_many_jobs_leave_nothing_in_the_server(stub):
    assert is_warm(stub, stub.script(WHERE))
    places = Path(f"/proc/{stub.server()}/fd")
    before = len(list(places.iterdir()))
    jobs = [stub.script("import time; time.sleep(0.2)") for _ in range(12)]
    for job in jobs[::3]:
        job.kill()
    codes = [outcome(job)[0] for job in jobs]
    assert codes == [-9, 0, 0] * 4
    until(lambda: len(list(places.iterdir())) == before)
    until(lambda: children(stub.server()) == [])


def started(workflow, tmp_path, script="", **options):
    """A job that sleeps, and the number of the process that does it."""
    file = tmp_path / "pid"
    sleep = f"open({str(tmp_path / 'new')!r}, 'w').write(str(os.getpid())); os.rename({str(tmp_path / 'new')!r}, {str(file)!r})"
    process = workflow.script(f"import os, signal, time\n{script}\n{sleep}\ntime.sleep(60)", **options)
    until(file.exists)
    return process, int(file.read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("warm_worker", [True, False])
def test_a_signal_ends_the_job_as_it_would_without(stub, tmp_path, number, warm_worker):
    # The tests themselves may run where signals are ignored: behind nohup, say.
    usual = {"preexec_fn": lambda: [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGINT, signal.SIGHUP)]}
    process, child = started(stub, tmp_path, warm_worker=warm_worker, **usual)
    assert (child == process.pid) != warm_worker
    process.send_signal(number)
    expected = (130, "", "interrupted\n") if number == signal.SIGINT else (-number, "", "")
    assert outcome(process) == expected
    # A client that is hit before it passes signals on dies at once, and the server then ends the child.
    until(lambda: not alive(child))


def test_a_job_may_ignore_what_its_client_ignores(stub, tmp_path):
    process, child = started(stub, tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert alive(child)
    process.terminate()
    assert outcome(process)[0] == -signal.SIGTERM


@pytest.mark.parametrize("script", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_the_child_of_a_client_that_is_killed_ends(stub, tmp_path, script):
    process, child = started(stub, tmp_path, script)
    process.kill()
    outcome(process)
    until(lambda: not Path(f"/proc/{child}").exists())
    assert is_warm(stub, stub.script(WHERE))


def test_a_killed_server_fails_its_job_with_a_line_and_the_next_job_does_without(own, tmp_path):
    process, child = started(own, tmp_path)
    os.kill(own.server(), signal.SIGKILL)
    code, output, errors = outcome(process)
    assert (code, output) == (1, "")
    assert errors == "error: the warm worker of this job was killed; run it again (or with warm: false)\n"
    until(lambda: not alive(child))
    begin = time.monotonic()
    assert int(outcome(own.script(WHERE))[1]) == os.getpid()
    assert time.monotonic() - begin < 5


def test_a_terminated_server_takes_its_children_and_its_folder_along(own, tmp_path):
    process, child = started(own, tmp_path)
    os.kill(own.server(), signal.SIGTERM)
    assert outcome(process)[0] == 1
    until(lambda: own.server() is None)
    until(lambda: not alive(child))
    assert not own.private.exists()


@pytest.mark.parametrize("edit", ["touch", "append", "add"])
def test_an_edited_package_is_not_run_stale(own, edit):
    assert is_warm(own, own.script(WHERE))
    file = own.code / "whysgd/training/loop.py"
    if edit == "add":
        file.with_name("new.py").write_text("")
    else:
        file.write_text(file.read_text() + ("\nprint('edited')\n" if edit == "append" else ""))
    code, output, errors = outcome(own.script(WHERE))
    assert (code, errors) == (0, "")
    assert ("edited" in output) == (edit == "append")
    assert int(output.split()[-1]) == os.getpid()


def test_a_package_that_does_not_load_is_reported_by_each_job(own):
    file = own.code / "whysgd/training/loop.py"
    file.write_text("raise RuntimeError('does not load')\n")
    outcomes = [outcome(own.script(WHERE, warm_worker=warm_worker)) for warm_worker in (True, True, False)]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert outcomes[0][2].endswith("RuntimeError: does not load\n")


OTHERS = {
    "another environment": {"variables": {"PYTHONHASHSEED": "0"}},
    "torchrun": {"variables": {"WORLD_SIZE": "2"}},
    "an offer of a process that is no ancestor": {"variables": {warm.VARIABLE: f"{os.getpid()}:1:/tmp/whysgd-warm-none"}},
    "an offer that is none": {"variables": {warm.VARIABLE: "1"}},
}  # fmt: skip


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS.keys())
def test_who_cannot_have_a_warm_worker_does_without(stub, options):
    assert is_warm(stub, stub.script(WHERE))
    options = {**options, "warm_worker": warm.VARIABLE not in options["variables"]}
    environment = {**os.environ, **options["variables"]}
    code, output, errors = outcome(stub.script(WHERE, **options))
    assert (code, errors) == (0, ""), environment
    assert int(output) == os.getpid()


def test_a_folder_that_others_can_enter_is_not_trusted(own):
    own.private.mkdir(mode=0o755)
    assert int(outcome(own.script(WHERE))[1]) == os.getpid()
    assert own.server() is None


OWNER = """
import os, subprocess, sys, time
from whysgd import warm
warm.offer()
job = subprocess.Popen(sys.argv[2:])
open(sys.argv[1] + ".new", "w").write(os.environ[warm.VARIABLE])
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(float(os.environ["OWNER_SLEEPS"]))
"""


@pytest.mark.parametrize("ending", ["killed", "over"])
def test_nothing_outlives_who_made_the_offer(own, tmp_path, ending):
    script, pid = tmp_path / "script", tmp_path / "pid"
    script.write_text(f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    job = [sys.executable, "-m", "whysgd", "train", "--spec", SPEC, "--device", "cpu", "--data", script]
    environment = {**os.environ, "PYTHONPATH": str(own.code), "OWNER_SLEEPS": "60" if ending == "killed" else "2"}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path / "offer", *job], cwd=own.folder, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder = Path(until((tmp_path / "offer").exists) and (tmp_path / "offer").read_text().split(":", 2)[2])
    until(lambda: pid.exists() and pid.read_text())
    assert len(processes(str(folder))) == 2
    if ending == "killed":
        owner.kill()
    owner.wait(timeout=30)
    until(lambda: not processes(str(folder)) and not folder.exists())
    until(lambda: not processes(str(script)))
    until(lambda: not alive(int(pid.read_text())))


def test_an_offer_is_taken_back(monkeypatch):
    monkeypatch.setenv(warm.VARIABLE, "inherited")
    warm.offer(False)
    assert warm.VARIABLE not in os.environ


def test_no_server_is_started_where_no_job_asks(own):
    assert outcome(own.start("show", warm_worker=True))[0] == 1
    assert not own.private.exists()
