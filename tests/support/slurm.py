"""A real Slurm on this machine: munged, slurmctld and slurmd of Debian's packages, in a folder of their own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from launch.machine.network import find_free_port

_READY_S = 60.0
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_CONF = """
ClusterName=lfc
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=30
MinJobAge=30
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000 State=UNKNOWN
PartitionName=spare Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1 State=UP
PartitionName=urgent Nodes={host} MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP
"""


def lacks_slurm() -> str:
    """Return which of Slurm's programs are not here, "" when all are; CI installs them (.ci/run)."""
    return ", ".join(name for name in _PROGRAMS if _find(name) is None)


def _find(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


@dataclass(frozen=True)
class Slurm:
    """A running cluster of one machine with four places; `SLURM_CONF` leads to it."""

    folder: Path

    def call(self, *command: str) -> str:
        """Return what one of Slurm's commands prints."""
        return subprocess.run(command, capture_output=True, text=True, check=True, env=self.env()).stdout

    def env(self) -> dict[str, str]:
        """Return the variables with which Slurm's commands find this cluster."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def list_jobs(self) -> dict[str, str]:
        """Return {job: state} of all jobs that have not ended."""
        lines = self.call("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        return dict(line.split(maxsplit=1) for line in lines)

    def read_logs(self) -> str:
        """Return the ends of the services' logs, for a test that failed."""
        return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log"))


@contextmanager
def serve_slurm(folder: Path) -> Iterator[Slurm]:
    """Start the three services, wait until the machine takes jobs, and end them with all jobs afterwards."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    host = socket.gethostname().partition(".")[0]
    text = _CONF.format(host=host, folder=folder, controller_port=find_free_port(), node_port=find_free_port())
    (folder / "slurm.conf").write_text(text, encoding="utf-8")
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    munge = [
        *("munged", "--force", "--foreground", f"--key-file={key}", f"--socket={folder}/munge.socket"),
        *(f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed"),
    ]
    services: list[subprocess.Popen[bytes]] = []
    slurm = Slurm(folder)
    try:
        for command in (munge, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-c", "-N", host]):
            program = _find(command[0])
            assert program is not None, command[0]
            with (folder / f"{command[0]}.out.log").open("wb") as out:
                services.append(subprocess.Popen([program, *command[1:]], stdout=out, stderr=out, env=slurm.env()))
            if command[0] == "munged":
                _wait_for((folder / "munge.socket").exists, slurm)
        _wait_for(lambda: "idle" in _say(slurm), slurm)
        yield slurm
        subprocess.run(["scancel", "--me"], env=slurm.env(), check=False)
        _wait_for(lambda: not slurm.list_jobs(), slurm)
    finally:
        for service in reversed(services):
            service.terminate()
            try:
                service.wait(timeout=20)
            except subprocess.TimeoutExpired:
                service.kill()
                service.wait()


def _say(slurm: Slurm) -> str:
    return subprocess.run(
        ["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, check=False, env=slurm.env()
    ).stdout


def _wait_for(is_so: Callable[[], bool], slurm: Slurm) -> None:
    deadline = time.monotonic() + _READY_S
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail(f"Slurm does not come up:\n{slurm.read_logs()}")
        time.sleep(0.2)
