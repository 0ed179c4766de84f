"""``cluster up``, ``down``, ``status``; ``doctor``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.cli.output import print_json, print_table
from autoopt.cli.searching import ADDRESS
from autoopt.errors import ClusterError
from autoopt.records.hardware import DEFAULT

if TYPE_CHECKING:
    from autoopt.cluster.checks import Check
    from autoopt.cluster.nodes import JobView, NodeView, Slots
    from autoopt.cluster.started import Started


def add(commands: Any) -> None:
    """Declare the commands."""
    cluster = commands.add_parser(
        "cluster", help="start and stop nodes of a cluster on this machine, or show a cluster"
    )
    verbs = cluster.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_up(verbs)
    _add_down(verbs)
    status = verbs.add_parser("status", help="the nodes of a cluster, and the jobs that run there")
    status.add_argument(
        "--address",
        metavar="URL",
        help=f"of the cluster's dashboard (default: ${ADDRESS}, else of the head that was started here)",
    )
    _add_common(status)
    status.set_defaults(run=_status)
    _add_doctor(commands)


def _add_up(verbs: Any) -> None:
    up = verbs.add_parser("up", help="start a node on this machine: a cluster's head, or a worker that joins one")
    up.add_argument("--join", metavar="HOST:PORT", help="join the head at this address; without it the node is a head")
    up.add_argument(
        "--hardware", metavar="NAME", default=DEFAULT, help="its kind of hardware, as spaces and reports name it"
    )
    up.add_argument("--cores", metavar="LIST", help="its cores, as 0-3,8; all that this process may use by default")
    up.add_argument(
        "--lane-cores", metavar="N", type=int, help="how many of them are kept for measuring; half of them by default"
    )
    up.add_argument(
        "--share-cores", action="store_true", help="take cores that another node here has, too, though figures suffer"
    )
    up.add_argument("--no-lane", action="store_true", help="measure nothing on this node")
    up.add_argument(
        "--trainers", metavar="N", type=int, help="how many trainings run at once; one for each core by default"
    )
    up.add_argument("--builders", metavar="N", type=int, help="how many builds run at once")
    up.add_argument(
        "--host",
        metavar="ADDRESS",
        help="the address of this machine by which others reach it; loopback only by default",
    )
    up.add_argument("--port", metavar="N", type=int, default=6379, help="of a head, for nodes that join (6379)")
    up.add_argument(
        "--dashboard-port", metavar="N", type=int, default=8265, help="of a head, for clients and browsers (8265)"
    )
    up.add_argument("--print", action="store_true", help="print the plain `ray start` commands, and start nothing")
    _add_common(up)
    up.set_defaults(run=_up)


def _add_down(verbs: Any) -> None:
    down = verbs.add_parser("down", help="stop the nodes that `up` has started on this machine, and nothing else")
    down.add_argument("--node", metavar="ID", help="stop this one only")
    _add_common(down)
    down.set_defaults(run=_down)


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser("doctor", help="check this machine, a cluster, a store, a study, and say what to mend")
    doctor.add_argument(
        "--address",
        metavar="URL",
        help=f"of a cluster's dashboard (default: ${ADDRESS}, else this machine alone is checked)",
    )
    doctor.add_argument(
        "--store",
        metavar="URL",
        help="of an artifact store, tried from here and from every node (default: $AUTOOPT_STORE)",
    )
    doctor.add_argument(
        "--study",
        metavar="URL",
        help="of a study's database, tried from here and from the head (default: $AUTOOPT_STUDY)",
    )
    _add_common(doctor)
    doctor.set_defaults(run=_doctor)


def _add_common(parser: Any) -> None:
    parser.add_argument("--temp-dir", metavar="DIR", type=Path, help="the folder of the clusters that are started here")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _up(given: argparse.Namespace) -> int:
    from autoopt.cluster import cores, up
    from autoopt.cluster.wish import Wish

    wish = Wish(
        join=given.join,
        kind=given.hardware,
        cores=None if given.cores is None else cores.parse(given.cores),
        share_cores=given.share_cores,
        lane_cores=given.lane_cores,
        measures=not given.no_lane,
        trainers=given.trainers,
        builders=given.builders,
        host=given.host,
        port=given.port,
        dashboard_port=given.dashboard_port,
        temp_dir=given.temp_dir,
    )
    if given.print:
        print(up.shown(wish))
        return 0
    record = up.up(wish)
    if given.json:
        print_json({**vars(record), "listens": up.reach(record)})
    else:
        print(_started(record, up.reach(record)))
    return 0


def _started(record: Started, listens: str) -> str:
    from autoopt.cluster import cores
    from autoopt.cluster.processes import is_loopback

    lane = f"cores {cores.shown(record.lane)} measure, {cores.shown(record.work)} work"
    lines = [
        f"started the {'head' if record.head else 'node'} {record.id} of the kind {record.kind}",
        f"  cores      {lane if record.lane else f'{cores.shown(record.work)} work, none measures'}",
        f"  listens on {listens}",
    ]
    if record.head:
        lines += [
            f"  address    {record.dashboard} (for jobs: --address; for browsers, which ask for the token)",
            f"  to join    autoopt cluster up --join {record.address}{'' if is_loopback(record.host) else ' --host ITS_ADDRESS'}",
        ]
    return "\n".join(lines)


def _down(given: argparse.Namespace) -> int:
    from autoopt.cluster.down import down

    stopped = down(given.temp_dir, given.node)
    if given.json:
        print_json([vars(record) for record in stopped])
    else:
        print(
            "\n".join(
                f"stopped the {'head' if record.head else 'node'} {record.id} of the kind {record.kind}"
                for record in stopped
            )
            or "nothing was started here"
        )
    return 0


def _status(given: argparse.Namespace) -> int:
    from autoopt.cluster.nodes import jobs, nodes

    address = given.address or os.environ.get(ADDRESS) or _own_head(given.temp_dir)
    there, running = nodes(address), [job for job in jobs(address) if job.runs]
    if given.json:
        print_json({"address": address, "nodes": there, "jobs": running})
        return 0
    print_table(
        ("node", "kind", "state", "lane", "train", "build", "autoopt", "on"), [_node_row(node) for node in there]
    )
    print()
    if running:
        print_table(("job", "status", "since", "entrypoint"), [_job_row(job) for job in running])
    else:
        print("no job runs")
    return 0


def _own_head(temp_dir: Path | None) -> str:
    from autoopt.cluster import started

    heads = [record.dashboard for record in started.read_all(started.clusters_folder(temp_dir)) if record.head]
    if len(heads) != 1:
        there = f"{len(heads)} heads were started here ({', '.join(heads)})" if heads else "no head was started here"
        message = f"{there}; name the cluster: --address http://host:8265"
        raise ClusterError(message)
    return heads[0]


def _node_row(node: NodeView) -> tuple[str, ...]:
    name = node.name or node.id[:6]
    engines = ", ".join(f"{engine} {version}" for engine, version in sorted(node.engines.items())) or "no engine named"
    return (
        f"{name}{' (head)' if node.head else ''}",
        node.kind,
        "alive" if node.alive else "gone",
        "-" if node.lane is None else {None: "?", 0.0: "free"}.get(node.lane.used, "held"),
        _share(node.slots.get("trainer")),
        _share(node.slots.get("builder")),
        node.autoopt or "?",
        node.trouble
        if not node.alive
        else "; ".join(filter(None, (f"{node.host} {node.address}".strip(), node.cpu, node.cuda, engines))),
    )


def _share(slots: Slots | None) -> str:
    if slots is None:
        return "-"
    return f"{'?' if slots.used is None else f'{slots.used:g}'}/{slots.total:g}"


def _job_row(job: JobView) -> tuple[str, ...]:
    import time

    since = "-" if job.started_at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started_at))
    return (job.id, job.status.lower(), since, job.entrypoint)


def _doctor(given: argparse.Namespace) -> int:
    from autoopt.cluster.doctor import examine
    from autoopt.search.study_url import JOURNAL, VARIABLE

    study = given.study or os.environ.get(VARIABLE)
    checks = examine(
        given.address or os.environ.get(ADDRESS),
        given.store or os.environ.get("AUTOOPT_STORE"),
        None if study == JOURNAL else study,
        given.temp_dir,
    )
    sound = all(check.verdict != "problem" for check in checks)
    if given.json:
        print_json({"ok": sound, "checks": checks})
    else:
        print_table(("check", "", "found"), [_check_row(check) for check in checks])
    return 0 if sound else 1


def _check_row(check: Check) -> tuple[str, ...]:
    return (check.what, check.verdict, f"{check.found}{f' → {check.remedy}' if check.remedy else ''}")
