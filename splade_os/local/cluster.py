"""Start, watch and stop a local cluster."""

from __future__ import annotations

import shutil
import socket
import time
from typing import Literal

from splade_os.errors import ClusterError
from splade_os.local import docker, node
from splade_os.local.artifacts import Release, find_release
from splade_os.local.distribution import java_home, prepare
from splade_os.local.http import ask, is_taken, version_at, who_listens
from splade_os.local.places import require_usable
from splade_os.local.progress import INTERVAL, Report, silent
from splade_os.local.state import (
    ClusterState,
    NodeState,
    cluster_dir,
    forget_state,
    load_state,
    save_state,
)

Via = Literal["auto", "docker", "jvm"]
_START_TIMEOUT = 240  # seconds; a cold disk and busy cores take 45
_BESIDE_HEAP = 400_000_000  # bytes of a JVM outside its heap
_TAIL = 15


def up(
    *,
    engine: str = "opensearch",
    version: str | None = None,
    via: Via = "auto",
    flavor: str | None = None,
    nodes: int = 1,
    port: int = 9200,
    name: str = "default",
    heap: str = "1g",
    report: Report = silent,
) -> ClusterState:
    """Start a cluster and wait until it answers; one that runs already is returned.

    Args:
        engine: ``opensearch`` or ``elasticsearch``.
        version: default the newest that can be started.
        via: ``docker``, ``jvm``, or ``auto``: Docker where an engine answers, else the JVM.
        flavor: ``standard``, or ``plugins`` (OpenSearch 3.6 with k-NN, ML commons,
            neural-search); default what the version has, ``standard`` first.
        nodes: 1 or 3.
        port: of the first node; the others follow. 0 takes a free one.
        name: several clusters can run beside each other.
        heap: of each node's JVM.
        report: called while it takes time.

    Raises:
        ClusterError: why there is no cluster; nothing is left running.
    """
    release = find_release(engine, version, flavor)
    running = status(name)
    if running is not None:
        _require_same(running, engine, version, flavor)
        return running
    if nodes not in (1, 3):
        raise ClusterError(f"A local cluster has 1 or 3 nodes, not {nodes}.")
    down(name)  # what is left of one that died
    ports = _ports(port, nodes)
    if via == "auto":
        possible = release.flavor == "standard" and (engine, nodes) != ("elasticsearch", 3)
        via = "docker" if possible and docker.answers() else "jvm"
    start = _up_docker if via == "docker" else _up_jvm
    return start(engine, release, ports, name, heap, report)


def _require_same(
    running: ClusterState, engine: str, version: str | None, flavor: str | None
) -> None:
    """A cluster that runs under the name must be what is asked for."""
    asked = (version, flavor) if engine == running.engine else (engine,)
    if any(part not in (None, running.version, running.flavor) for part in asked):
        name = "" if running.name == "default" else f" --name {running.name}"
        raise ClusterError(
            f"The cluster {running.name} runs {running.engine} {running.version} "
            f"({running.flavor}) at {running.url}, not what is asked for.",
            hint=f"Stop it with: splade-os cluster down{name}. Or start the other under a name "
            "of its own: --name NAME --port N.",
        )


def _up_jvm(
    engine: str, release: Release, ports: list[int], name: str, heap: str, report: Report
) -> ClusterState:
    require_usable(cluster_dir(name))
    _require_memory(heap, len(ports))
    java_home()  # before a long download
    distribution = prepare(engine, release, report)
    folder = cluster_dir(name)
    started: list[NodeState] = []
    try:
        for i, port in enumerate(ports, 1):
            plan = node.NodePlan(
                f"node-{i}", folder / f"node-{i}", distribution, heap, port, ports, name, engine
            )
            started.append(node.start(plan))
        state = ClusterState(
            name=name,
            engine=engine,
            version=release.version,
            via="jvm",
            flavor=release.flavor,
            nodes=tuple(started),
        )
        save_state(state)
        _wait(state, report)
    except BaseException:  # Ctrl-C as well
        for one in started:
            node.stop(one)
        forget_state(name)
        raise
    return state


def _up_docker(
    engine: str, release: Release, ports: list[int], name: str, heap: str, report: Report
) -> ClusterState:
    if release.flavor != "standard":
        raise ClusterError("Docker has no flavour 'plugins' here.", hint="Use --via jvm.")
    cluster = docker.Cluster(name, engine, release.version, len(ports), ports[0], heap)
    docker.compose(cluster, ["up", "-d", "--wait"], report)
    state = ClusterState(
        name=name,
        engine=engine,
        version=release.version,
        via="docker",
        flavor=release.flavor,
        nodes=tuple(NodeState(name=f"node-{i}", port=p) for i, p in enumerate(ports, 1)),
    )
    save_state(state)
    _wait(state, report)
    return state


def status(name: str = "default") -> ClusterState | None:
    """The cluster of that name, if it runs and answers, else ``None``."""
    state = load_state(name)
    if state is None:
        return None
    if state.via == "jvm" and not all(node.is_alive(one) for one in state.nodes):
        return None
    return state if version_at(state.url) else None


def down(name: str = "default", *, delete_data: bool = False) -> bool:
    """Stop a cluster; its data stays unless ``delete_data``. Whether there was one."""
    state = load_state(name)
    if state is not None:
        if state.via == "docker":
            arguments = ["down", "--volumes"] if delete_data else ["down"]
            docker.compose(_in_docker(state), arguments, silent)
        for one in state.nodes:
            node.stop(one)
        forget_state(name)
    if delete_data:
        shutil.rmtree(cluster_dir(name), ignore_errors=True)
    return state is not None


def logs(name: str = "default", lines: int = 50) -> str:
    """The last lines of what each node printed.

    Raises:
        ClusterError: there is no cluster of that name.
    """
    state = load_state(name)
    if state is None:
        raise ClusterError(
            f"No cluster {name} was started.", hint="Start one: splade-os cluster up"
        )
    if state.via == "docker":
        arguments = ["logs", "--tail", str(lines)]
        return docker.compose(_in_docker(state), arguments, silent)
    return "\n".join(f"== {one.name}: {one.log}\n{node.tail(one, lines)}" for one in state.nodes)


def _in_docker(state: ClusterState) -> docker.Cluster:
    return docker.Cluster(
        state.name, state.engine, state.version, len(state.nodes), state.nodes[0].port
    )


def _wait(state: ClusterState, report: Report) -> None:
    start = time.monotonic()
    query = f"wait_for_status=yellow&wait_for_nodes={len(state.nodes)}&timeout=1s"
    while True:
        seconds = time.monotonic() - start
        report(f"Starting {state.engine} {state.version}", int(seconds), None)
        if state.via == "jvm":
            for one in state.nodes:
                if not node.is_alive(one):
                    raise ClusterError(
                        f"{one.name} ended while it started.",
                        hint=f"The last it said:\n{node.tail(one, _TAIL)}\n"
                        f"Its whole log: {one.log}",
                    )
        health = ask(f"{state.url}/_cluster/health?{query}", timeout=3)
        if health and not health.get("timed_out") and health.get("status") != "red":
            return
        if seconds > _START_TIMEOUT:
            last = "\n".join(node.tail(one, _TAIL) for one in state.nodes)
            raise ClusterError(
                f"{state.engine} did not answer at {state.url} within {_START_TIMEOUT} s.",
                hint=f"The last it said:\n{last}",
            )
        time.sleep(INTERVAL)


def _ports(port: int, nodes: int) -> list[int]:
    if port == 0:
        return _free_ports(nodes)
    ports = list(range(port, port + nodes))
    for one in (p + offset for p in ports for offset in (0, node.TRANSPORT_OFFSET)):
        if is_taken(one):
            raise ClusterError(
                f"Port {one} is taken by {who_listens(one)}.",
                hint="Use it with --url, stop it, or take another: splade-os cluster up --port N.",
            )
    return ports


def _free_ports(nodes: int) -> list[int]:
    """Consecutive ports that are free, and so are those for the transport."""
    for _ in range(50):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        wanted = [first + i + offset for i in range(nodes) for offset in (0, node.TRANSPORT_OFFSET)]
        if max(wanted) < 65_536 and not any(is_taken(one) for one in wanted):
            return [first + i for i in range(nodes)]
    raise ClusterError("No free ports were found.", hint="Name one: --port N.")


def _require_memory(heap: str, nodes: int) -> None:
    try:
        factor = {"k": 2**10, "m": 2**20, "g": 2**30}[heap[-1].lower()]
        needed = (int(heap[:-1]) * factor + _BESIDE_HEAP) * nodes
    except (KeyError, ValueError, IndexError):
        raise ClusterError(
            f"{heap!r} is no size of a heap.", hint="Write it like 512m or 1g."
        ) from None
    available = _available_memory()
    if available is not None and available < needed:
        raise ClusterError(
            f"{nodes} node(s) with {heap} of heap need {needed / 1e9:.1f} GB of memory, "
            f"{available / 1e9:.1f} GB are free.",
            hint="Give less heap: splade-os cluster up --heap 512m.",
        )


def _available_memory() -> int | None:
    """Bytes that new processes can have (Linux), else ``None``."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
