"""Ray's processes, as the system knows them: those that descend from this one, and what they listen on."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

LISTENING = "0A"  # a state in /proc/net/tcp


def require_ray() -> None:
    """Skip a module where Ray cannot be tried."""
    pytest.importorskip("fastapi", reason="needs the ray extra: pip install 'sd2rt[ray]'")
    import importlib.util

    if importlib.util.find_spec("ray") is None:  # not imported: it reads the environment when it is
        pytest.skip("needs the ray extra: pip install 'sd2rt[ray]'", allow_module_level=True)
    if not Path("/proc/net/tcp").exists():
        pytest.skip("needs Linux's /proc", allow_module_level=True)


@contextlib.contextmanager
def own_environment(**changes: str) -> Iterator[None]:
    """Change the environment for a block. What Ray was imported with stays: it is read once in a process."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        kept = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
        os.environ.clear()
        os.environ.update(before | kept)


def descendants(root: int | None = None) -> dict[int, str]:
    """Return the ids and command lines of all processes below one, this one if none is named."""
    found = {}
    for pid, parent, command in _processes():
        found[pid] = (parent, command)
    top = os.getpid() if root is None else root

    def below(pid: int) -> bool:
        return pid in found and (found[pid][0] == top or below(found[pid][0]))

    return {pid: command for pid, (_, command) in found.items() if below(pid)}


def replicas(root: int | None = None) -> list[int]:
    """Return the ids of the processes below one, this one if none is named, that paint."""
    return sorted(pid for pid, command in descendants(root).items() if command.startswith("ray::ServeReplica"))


def listening(pid: int) -> list[str]:
    """Return the addresses that a process listens on, without ports."""
    inodes = sockets(pid)
    return [address for inode, address in listeners().items() if inode in inodes]


def sockets(pid: int) -> set[str]:
    """Return the inodes of a process's sockets, none of one that is gone."""
    targets = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                targets.add(os.readlink(link))
    return {target[8:-1] for target in targets if target.startswith("socket:[")}


def listeners() -> dict[str, str]:
    """Return the TCP sockets of this machine that listen: inodes, and addresses without ports."""
    lines = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return {fields[9]: _address(fields[1].partition(":")[0]) for fields in lines if fields[3] == LISTENING}


def _address(text: str) -> str:
    words = [struct.pack("<I", int(text[begin : begin + 8], 16)) for begin in range(0, len(text), 8)]
    address = socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))
    return address.removeprefix("::ffff:")


def _processes() -> Iterator[tuple[int, int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                status = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if status[0] != "Z":
                yield int(folder.name), int(status[1]), command
