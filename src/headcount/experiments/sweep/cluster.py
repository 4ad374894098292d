"""Runs carried out by the nodes of a Ray cluster, on storage that they share."""

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headcount.errors import BadRecipe, DiskFull
from headcount.experiments.sweep.work import Work

RETRIES = 5
"""How many times a run whose node died is started again."""
ANSWER_WITHIN = 5.0
"""Seconds in which an address has to answer."""


class Cluster:
    """Runs as tasks of Ray. A task whose node dies is started again on another, and goes on from its checkpoints.

    Tasks work in the directory that they were started from, where the nodes have it: paths may be relative.

    Args:
        address: Of the cluster: `host:port`, `ray://host:port`, or `auto`: the one this machine belongs to.
        cpus: Cores of each run; fractions are allowed.
        gpus: Accelerators of each run, likewise.
        say: Told in a line that no node has room for a run, yet.

    Raises:
        BadRecipe: Ray is not installed, the address does not answer, or there are no such fractions.
    """

    def __init__(
        self,
        address: str = "auto",
        cpus: float = 1.0,
        gpus: float = 0.0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        if not (cpus >= 0 and gpus >= 0 and cpus + gpus > 0) or (gpus > 1 and gpus != int(gpus)):
            raise BadRecipe(
                f"Got {cpus:g} cores and {gpus:g} GPUs a run. Give numbers from 0 up, not both 0; of GPUs a fraction "
                "below 1, or a whole number."
            )
        self._ray = _join(address)
        self._task: Any = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(carry_out_from)
        self._per_run = {"CPU": cpus, "GPU": gpus}
        self._running: dict[Any, Work] = {}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0.0) >= need for name, need in self._per_run.items()) for node in nodes):
            there = "; ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
            say(
                f"No node of the Ray cluster has {cpus:g} cores and {gpus:g} GPUs, which a run wants (they have "
                f"{there}). Runs wait for one that has: add it, or stop and give less: --ray-cpus, --ray-gpus."
            )

    @property
    def size(self) -> int:
        """How many runs the cluster has room for now; nodes may come and go."""
        there = self._ray.cluster_resources()
        return max(1, int(min(there.get(name, 0.0) / need for name, need in self._per_run.items() if need)))

    def start(self, work: Work) -> None:
        """Begin a run, on any node."""
        self._running[self._task.remote(Path.cwd(), work)] = work

    def wait(self, seconds: float) -> list[tuple[str, str | None]]:
        """The runs that ended meanwhile, each with None or why it failed.

        Raises:
            DiskFull: See `Work.outcome`.
        """
        ended, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=seconds)
        outcomes = []
        for reference in ended:
            work = self._running.pop(reference)
            try:
                error = work.outcome(self._ray.get(reference))
            except self._ray.exceptions.RayError as lost:
                error = f"Ray lost the run: {' '.join(str(lost).split())[:300]}"
            outcomes.append((work.run.name, error))
        return outcomes

    def close(self) -> None:
        """Cancel whatever is running, and leave the cluster."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()


def carry_out_from(directory: Path, work: Work) -> int:
    """Carry a run out by a process of this node, in that directory if the node has it, and return its exit code."""
    try:
        process = work.begin(directory if directory.is_dir() else None)
    except DiskFull as error:
        return error.exit_code
    try:
        return process.wait()
    finally:
        process.kill()


def _join(address: str) -> Any:
    """Take part in a cluster, and return the library.

    Raises:
        BadRecipe: Ray is not installed, or the address does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise BadRecipe("Ray is not installed: pip install 'headcount[ray]'.") from error
    require_answer(address)
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        raise BadRecipe(f"Ray at '{address}' does not answer: {error}. Start it: ray start --head.") from error
    return ray


def require_answer(address: str) -> None:
    """Make sure that something answers at a cluster's address.

    Ray itself waits there for minutes. Its setting for less (RAY_gcs_rpc_server_reconnect_timeout_s) ends the process.

    Raises:
        BadRecipe: Nothing does, or it is no address.
    """
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise BadRecipe(f"Got Ray address '{address}'. Give host:port, ray://host:port, or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_WITHIN).close()
    except OSError as error:
        raise BadRecipe(
            f"Ray at '{address}' does not answer within {ANSWER_WITHIN:g} s: {error}. Start it: ray start --head."
        ) from error
