"""A job's own Ray: what it listens on, where it runs, who may read its token. Started for real, in a process of its own."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, os, psutil, signal
from pathlib import Path
from autoopt.search.cluster import local_cluster
from autoopt.workers.node import Node

def stop(number, frame): pass

signal.signal(signal.SIGTERM, stop)
node = Node.here()
with local_cluster(node) as cluster:
    family = psutil.Process().children(recursive=True) + [psutil.Process()]
    sockets = [
        connection.laddr.ip
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    affinity = sorted({tuple(process.cpu_affinity()) for process in family})
    token = (Path.home() / ".ray" / "auth_token").stat().st_mode & 0o777
    import ray
    folder = Path(ray._private.worker._global_node.get_temp_dir_path()).parent
    told = {"sigterm": signal.getsignal(signal.SIGTERM) is stop, "folder": str(folder), "folder_mode": folder.stat().st_mode & 0o777, "sockets": sockets, "affinity": affinity, "token": token, "dashboard": cluster.dashboard, "work": node.cores.work}
try:
    ray.put(1)
    told["joined"] = "again"
except Exception as error:
    told["joined"] = type(error).__name__
left = sorted(os.sched_getaffinity(0))
print(json.dumps({**told, "after": left}))
"""


BEFORE = "from ray.tune.logger import TBXLoggerCallback\n"


@pytest.fixture(scope="module", params=["", BEFORE], ids=["as it is", "with Ray imported before, for a callback"])
def told(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "HOME": str(home)
    }
    ended = subprocess.run(
        [sys.executable, "-c", request.param + PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return found


def test_every_listener_is_on_loopback(told: dict[str, Any]) -> None:
    assert told["sockets"]
    assert {ip for ip in told["sockets"] if not on_loopback(ip)} == set()
    assert told["dashboard"].startswith("http://127.0.0.1:")


def on_loopback(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def test_only_the_user_may_read_the_token(told: dict[str, Any]) -> None:
    assert told["token"] == 0o600


def test_sigterm_stays_with_the_job_and_no_late_thread_starts_ray_again(told: dict[str, Any]) -> None:
    assert told["sigterm"], "Ray would end the process in the midst of its work"
    assert told["joined"] == "RaySystemError"


def test_nobody_else_can_reach_rays_files_and_nothing_is_left_of_them(told: dict[str, Any]) -> None:
    """Ray makes its own folders and sockets writable for everybody."""
    assert told["folder_mode"] == 0o700
    assert not Path(told["folder"]).exists()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with a single core there is none to keep free")
def test_ray_stays_off_the_lanes_cores_and_the_process_is_itself_again_afterwards(told: dict[str, Any]) -> None:
    assert told["affinity"] == [told["work"]]
    assert told["after"] == sorted(os.sched_getaffinity(0))


def test_a_token_that_is_there_is_kept_and_closed_to_others(tmp_path: Path) -> None:
    from autoopt.search.cluster import private_token

    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("secret")
    path.chmod(0o644)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        patch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
        private_token()
    assert path.read_text() == "secret"
    assert path.stat().st_mode & 0o777 == 0o600
