"""A Slurm cluster of its own for tests: all daemons on this machine, on the loopback address, in a folder in /tmp.

It needs Debian's packages slurmctld, slurmd, slurm-client and munge, and neither root nor systemd nor control groups.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scontrol", "scancel")
START_SECONDS = 15.0
CONFIG = """\
ClusterName=samcmp
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# a job that is requeued begins again cred_expire + 1 s later
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
SlurmdTimeout=2
SlurmctldTimeout=10
KillWait=2
MinJobAge=300
ReturnToService=2
JobRequeue=1
MaxArraySize=1001
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=60 State=UP PriorityTier=9
"""


def missing() -> str | None:
    """Say why no cluster can be started here; None: one can."""
    with _found():
        absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"Slurm is not installed: no {', '.join(absent)} here" if absent else None


@contextlib.contextmanager
def _found() -> Iterator[None]:
    """Look for daemons where Debian puts them, which is not on every user's path."""
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{before}:/usr/sbin:/sbin"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _free_ports(count: int) -> int:
    """The first of ``count`` ports in a row that nobody listens on, below those that the system hands out."""
    for first in range(21000, 29000, count):
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no free ports")


class Cluster:
    """Two nodes n1, n2 of two CPUs each, as far as Slurm knows."""

    def __init__(self, *, nodes: int = 2, cpus: int = 2) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # sockets: a short path
        self.config = self.folder / "slurm.conf"
        self.names = [f"n{n + 1}" for n in range(nodes)]
        for name in ("munge", "state", "run", "log", *(f"spool/{node}" for node in self.names)):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "munge").chmod(0o700)
        port, host = _free_ports(nodes + 1), socket.gethostname().partition(".")[0]
        self.config.write_text(
            CONFIG.format(
                folder=self.folder, host=host, user=getpass.getuser(), port=port,
                nodes=nodes, cpus=cpus, first=port + 1, last=port + nodes,
            )
        )  # fmt: skip
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        munge = self.folder / "munge"
        self.call(
            "munged", "--force", f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid",
            f"--seed-file={munge}/seed", f"--log-file={self.folder}/log/munged.log", "--num-threads=2",
        )  # fmt: skip
        self.call("slurmctld", "-c")
        for name in self.names:
            self.call("slurmd", "-N", name)
        self.wait_for(lambda: len(self.call("sinfo", "-hN", "-p", "main", "-t", "idle").split("\n")) > len(self.names))

    def call(self, *words: str, seconds: float = 60.0) -> str:
        """Run a command of Slurm with this cluster's settings; return what it printed."""
        with _found():
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=seconds,
                env={**os.environ, "SLURM_CONF": str(self.config)},
            )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def wait_for(self, true: object, seconds: float = START_SECONDS) -> None:
        """Wait until a condition holds. Raises TimeoutError."""
        until = time.monotonic() + seconds
        while not true():  # type: ignore[operator]
            if time.monotonic() > until:
                raise TimeoutError(self.call("squeue", "-t", "all"))
            time.sleep(0.1)

    def lose(self, name: str) -> None:
        """Let a node and all that runs on it vanish at once, as by a power cut."""
        number = int((self.folder / "run" / f"{name}.pid").read_text())
        steps = [p for p in psutil.process_iter(["cmdline"]) if self._is_step(p, name)]
        gone = [psutil.Process(number), *(child for step in steps for child in [step, *step.children(recursive=True)])]
        for process in gone:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _is_step(self, process: psutil.Process, node: str) -> bool:
        with contextlib.suppress(psutil.Error):
            if "slurmstepd" in " ".join(process.cmdline()):
                return process.environ().get("SLURM_CONF") == str(self.config) or node in str(process.open_files())
        return False

    def back(self, name: str) -> None:
        """Start a node again that was lost."""
        self.call("slurmd", "-N", name)

    def stop(self) -> None:
        """End all jobs, then the daemons by the numbers that they wrote down, and remove the folder."""
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self.call("scancel", "-f", "-u", getpass.getuser())
            self.wait_for(lambda: not self.call("squeue", "-h"), seconds=5)
        files = [*(self.folder / "run").glob("*.pid"), self.folder / "munge" / "pid"]
        daemons = [psutil.Process(int(f.read_text())) for f in files if f.exists() and _alive(f)]
        for daemon in daemons:
            daemon.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(daemons, timeout=4)
        for daemon in alive:
            daemon.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _alive(file: Path) -> bool:
    text = file.read_text().strip()
    return text.isdigit() and psutil.pid_exists(int(text))
