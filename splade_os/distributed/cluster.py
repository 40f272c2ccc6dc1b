"""The Ray cluster that a job runs on: found or started, and asked whether it is large enough."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from splade_os.errors import ClusterError, MissingExtraError, SettingsError

LOCAL = "local"
_STORE = 512_000_000  # bytes of the object store of a cluster of our own
READER_CPUS = 0.5
"""Of a task that reads, and of a writer: they wait for a disk or a search engine most of the time.
Other than an encoder's, so that Ray does not put reading and encoding into one process."""


@dataclass(frozen=True)
class RayOptions:
    """Where and how widely a job runs.

    Attributes:
        address: ``local`` = a cluster of this machine, for this job alone; ``auto`` = the one that
            this machine is part of; ``ray://HOST:10001`` = another one.
        workers: actors that encode.
        writers: actors that send, one bulk request at a time each.
        cpus, gpus: of each worker; a fraction of a GPU lets several share it. Ray gives torch as
            many threads as a worker has CPUs.
        attempts: how often a window of documents may end its worker before it is split; a document
            that ends it as often alone is a dead letter.
    """

    address: str = LOCAL
    workers: int = 1
    writers: int = 2
    cpus: float = 1.0
    gpus: float = 0.0
    attempts: int = 2

    def __post_init__(self) -> None:
        if not (self.address in (LOCAL, "auto") or self.address.startswith("ray://")):
            raise SettingsError(
                f"--on ray: {self.address!r} is no address of a Ray cluster.",
                hint="Write --on ray (a cluster of this machine), --on ray:auto, or --on "
                "ray://HOST:10001.",
            )
        if self.workers < 1 or self.writers < 1 or self.cpus <= 0 or self.gpus < 0:
            raise SettingsError("A job has at least one worker, with a CPU, and one writer.")

    @property
    def needed(self) -> float:
        """CPUs that all of it takes, one reader included. With less, Ray starts some of the actors
        and waits for the others for ever."""
        return self.workers * self.cpus + (self.writers + 1) * READER_CPUS


def import_ray() -> Any:
    """Ray.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of a job goes to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else its core talks on our stderr
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("A job on Ray", "ray") from None
    return ray


@contextmanager
def connected(options: RayOptions) -> Iterator[Any]:
    """Within it Ray is there, and large enough; a cluster of our own ends with it.

    Raises:
        MissingExtraError: Ray is not installed.
        ClusterError: no cluster answers.
        SettingsError: it is too small.
    """
    ray = import_ray()
    if ray.is_initialized():  # a program of the user's, which ends it itself
        _check(ray, options)
        yield ray
        return
    arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if options.address == LOCAL:
        # CPUs of Ray are places for actors: threads are a worker's own matter
        arguments |= {
            "address": "local",
            "num_cpus": max(os.cpu_count() or 1, int(options.needed + 1)),
            "include_dashboard": False,
            "object_store_memory": _STORE,
        }
    else:
        arguments["address"] = options.address
    try:
        ray.init(**arguments)
    except Exception as error:  # ConnectionError, its own classes, and grpc's
        raise ClusterError(
            f"No Ray cluster answers at {options.address}: {error}",
            hint="`ray status` on its head node shows it; --on ray starts one of this machine.",
        ) from error
    try:
        _check(ray, options)
        yield ray
    finally:
        ray.shutdown()


def _check(ray: Any, options: RayOptions) -> None:
    there = ray.cluster_resources()
    for name, needed in (("CPU", options.needed), ("GPU", options.workers * options.gpus)):
        found = there.get(name, 0)
        if found < needed:
            raise SettingsError(
                f"The Ray cluster has {found:g} {name}s, and {options.workers} workers and "
                f"{options.writers} writers take {needed:g}: some would never start.",
                hint="Fewer --workers or --writers, or a smaller --cpus-per-worker or "
                "--gpus-per-worker.",
            )


def keeper(ray: Any, kind: type, *arguments: Any) -> Any:
    """An actor that keeps something for all others. If it is killed it begins anew, with what it
    knew lost, and whoever asked it gets an answer."""
    made = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(kind)
    return made.remote(*arguments)


def quiet_context(ray: Any) -> None:
    """Settings of Ray Data for a job of ours: small blocks (a retried task repeats one), no bars of
    its own."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 4 << 20
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_auto_log_stats = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # of few windows some writers get none
    warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)
