"""One node as a process of this machine."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from splade_os.errors import ClusterError
from splade_os.local.distribution import java_home
from splade_os.local.places import hand_over, keep, let_read, node_user
from splade_os.local.state import NodeState

TRANSPORT_OFFSET = 100
"""The port of the transport, counted from that of HTTP."""
_EXEC_PATIENCE = 5  # seconds in which a process may show no arguments
_PATIENCE = 30  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True)
class NodePlan:
    """What a node is to be.

    Attributes:
        name: ``node-1`` ...
        folder: for its configuration, logs, data and temporary files.
        distribution: the unpacked engine, shared by all nodes.
        heap: for the JVM, like ``1g``.
        port: of HTTP; peers: HTTP ports of all nodes, its own included.
        cluster: name of the cluster.
        engine: ``opensearch`` or ``elasticsearch``.
        settings: further lines of the node's configuration.
        secrets: for the node's keystore (Elasticsearch).
        files: further files of the configuration: path below it → content.
    """

    name: str
    folder: Path
    distribution: Path
    heap: str
    port: int
    peers: Sequence[int]
    cluster: str
    engine: str = "opensearch"
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def start(plan: NodePlan) -> NodeState:
    """Start a node; it outlives this process. It does not answer yet."""
    config, log = plan.folder / "config", plan.folder / "console.log"
    keep(plan.folder)  # first: what lies in a folder of his own the node's user may exchange
    if config.is_symlink():
        config.unlink()
    shutil.rmtree(config, ignore_errors=True)
    for name in ("logs", "data", "tmp"):
        hand_over(plan.folder / name)
    shutil.copytree(plan.distribution / "config", config)
    (config / f"{plan.engine}.yml").write_text(_settings(plan), "utf-8")
    for path, content in plan.files.items():
        (config / path).parent.mkdir(parents=True, exist_ok=True)
        (config / path).write_bytes(content)
    options = config / "jvm.options"
    text = options.read_text("utf-8")
    for relative in ("logs/", "agent/"):
        owner = plan.folder if relative == "logs/" else plan.distribution
        text = text.replace(f"={relative}", f"={owner}/{relative}")
        text = text.replace(f":{relative}", f":{owner}/{relative}")
    text = text.replace("HeapDumpPath=data", f"HeapDumpPath={plan.folder}/data")
    options.write_text(text, "utf-8")
    prefix = "ES" if plan.engine == "elasticsearch" else "OPENSEARCH"
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(plan.folder / "tmp"),
        f"{prefix}_JAVA_HOME": str(java_home()),
        f"{prefix}_PATH_CONF": str(config),
        f"{prefix}_TMPDIR": str(plan.folder / "tmp"),
        f"{prefix}_JAVA_OPTS": f"-Xms{plan.heap} -Xmx{plan.heap}",
    }
    of_tools = (f"{prefix}_JAVA_HOME", f"{prefix}_PATH_CONF")
    user = node_user()
    process_options: dict[str, Any] = {
        "cwd": plan.folder,
        "env": environment,
        "stderr": subprocess.STDOUT,
        "user": user,
        "group": None if user is None else _group(user),
        "extra_groups": None if user is None else [],
    }
    programs = plan.distribution / "bin"
    keystore = programs / f"{plan.engine}-keystore"
    # by the one who owns the configuration; the node would make one where it may not write
    as_owner: dict[str, Any] = {
        "cwd": plan.folder,
        "env": {name: environment[name] for name in ("PATH", "LANG", *of_tools)},
        "stderr": subprocess.STDOUT,
        "check": True,
    }
    with open_log(log, "wb") as output:
        if plan.secrets or user is not None:
            subprocess.run([keystore, "create"], stdout=output, **as_owner)
        for name, secret in plan.secrets.items():
            command: list[str | Path] = [keystore, "add", "-x", name]
            subprocess.run(command, input=secret.encode(), stdout=output, **as_owner)
        let_read(config)
        process = subprocess.Popen(
            [programs / plan.engine, _data_option(plan.folder / "data")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            start_new_session=True,
            **process_options,
        )
    return NodeState(
        name=plan.name, port=plan.port, pid=process.pid, log=log, data=plan.folder / "data"
    )


def _data_option(data: Path) -> str:
    """Where the node's data lies; told on the command line, by which the node is recognised."""
    return f"-Epath.data={data}"


def _group(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _settings(plan: NodePlan) -> str:
    lines = [
        f"cluster.name: splade-os-{plan.cluster}",
        f"node.name: {plan.name}",
        f"path.logs: {plan.folder / 'logs'}",
        "network.host: 127.0.0.1",
        f"http.port: {plan.port}",
        f"transport.port: {plan.port + TRANSPORT_OFFSET}",
        # a nearly full disk of a developer must not make his indices read-only
        "cluster.routing.allocation.disk.threshold_enabled: false",
    ]
    if plan.engine == "elasticsearch" and not any("security" in name for name in plan.settings):
        lines.append("xpack.security.enabled: false")
    lines += [f"{name}: {value}" for name, value in plan.settings.items()]
    first_masters = "master" if plan.engine == "elasticsearch" else "cluster_manager"
    if len(plan.peers) == 1:
        lines.append("discovery.type: single-node")
    else:
        hosts = ", ".join(f"127.0.0.1:{port + TRANSPORT_OFFSET}" for port in plan.peers)
        names = ", ".join(f"node-{i}" for i in range(1, len(plan.peers) + 1))
        lines += [
            f"discovery.seed_hosts: [{hosts}]",
            f"cluster.initial_{first_masters}_nodes: [{names}]",
        ]
    return "\n".join(lines) + "\n"


def is_alive(node: NodeState) -> bool:
    """Whether the node's process runs, and is still the one that was started."""
    if node.pid is None or node.data is None:
        return False
    with suppress(OSError):  # reap it, should it be a child of ours that has ended
        os.waitpid(node.pid, os.WNOHANG)
    deadline = time.monotonic() + _EXEC_PATIENCE
    while True:
        command = subprocess.run(
            ["ps", "-ww", "-o", "stat=,args=", "-p", str(node.pid)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        state, _, arguments = command.partition(" ")
        arguments = arguments.strip()
        if not command or state.startswith("Z"):
            return False
        if f" {_data_option(node.data)} " in f" {arguments} ":
            return True
        # the number went to another process, even to another node; or this is the moment in which
        # the start script becomes Java, when a process shows no arguments: ps names it in brackets
        becoming = not arguments or arguments.startswith("[")
        if not becoming or time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def stop(node: NodeState) -> None:
    """Stop a node: SIGTERM, and SIGKILL where that does not help."""
    if node.pid is None or not is_alive(node):
        return
    for sign, patience in ((signal.SIGTERM, _PATIENCE), (signal.SIGKILL, 5)):
        try:
            os.killpg(node.pid, sign)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not is_alive(node):
                return
            time.sleep(0.1)


def tail(node: NodeState, lines: int) -> str:
    """The last lines that a node printed."""
    if node.log is None or not node.log.is_file():
        return ""
    with open_log(node.log, "rb") as log:
        return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-lines:])


def open_log(log: Path, mode: Literal["rb", "wb"]) -> IO[bytes]:
    """What a node prints, for its owner alone; never through a symbolic link, by which somebody
    else could have this process open another file.

    Raises:
        ClusterError: it is one.
    """
    flags = os.O_RDONLY if mode == "rb" else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.fdopen(os.open(log, flags | os.O_NOFOLLOW, 0o600), mode)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ClusterError(
            f"The log {log} is a symbolic link, which is not followed.", hint="Remove it."
        ) from None
