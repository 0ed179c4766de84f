"""``report.html``: one self-contained file that asks the network for nothing.

plotly.js is inlined compressed (1.9 MB of text for 4.8 MB) and unpacked by the browser; a Content-Security-Policy in the
page makes the browser itself refuse any request. Whatever comes from outside (messages of failed candidates, names) is
escaped by the template; nothing of it is ever put into a script.
"""

from __future__ import annotations

import base64
import functools
import gzip
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from autoopt.front import Pick
from autoopt.front.pareto import DEFAULT_SCORE_MARGIN
from autoopt.front.words import ScoreWords, figure, interval, number
from autoopt.report import census, load, prose, view
from autoopt.report.data import ReportData
from autoopt.report.points import page_data
from autoopt.report.progress import stage_times
from autoopt.report.waterfall import waterfall

ROLE_NAMES = {"pick": "recommended", "reference": "reference", "lossless": "lossless, fastest", "front": "front"}


@dataclass(frozen=True)
class Tile:
    """One large number."""

    value: str
    label: str
    small: str


def render(data: ReportData) -> str:
    """The page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.from_string(_read("report.html.j2")).render(**_context(data))


def _context(data: ReportData) -> dict[str, Any]:
    front, rows = data.front, view.rows(data)
    words = ScoreWords(data.task.metric, in_points=False) if front is None else front.words
    return {
        # Our own files, not data: the only text that is not escaped.
        "css": Markup(_read("report.css")),  # noqa: S704 (a file of this package)
        "script": Markup(_read("report.js")),  # noqa: S704 (a file of this package)
        "plotly_gzip": packed_plotly(),
        "data": data,
        "confirmed": front is not None and front.confirmed,
        "started": prose.moment(data.started_at),
        "took": prose.duration(max(0.0, data.ended_at - data.started_at)),
        "caveats": prose.caveats(data),
        "pick": data.recommended,
        "tiles": _tiles(data.recommended),
        "configs": data.configs,
        "rows": rows,
        "columns": view.columns(words, under_load=load.bound_ms(data) is not None),
        "bound_ms": load.bound_ms(data),
        "load_rows": load.rows(data),
        "engines": sorted({row.engine for row in rows}),
        "totals": census.totals(data.rows),
        "census": census.census(data.rows),
        "rungs": census.rungs(data.rows),
        "waterfall": waterfall(data),
        "reference_name": "" if front is None else front.reference_name,
        "points": words.in_points,
        "margin": words.points(DEFAULT_SCORE_MARGIN) if words.in_points else "5 % of the score",
        "stage_times": stage_times(data.rows),
        "how_taken": prose.how_taken(data),
        "remarks": prose.remarks(data.configs),
        "environment": environment_lines(data),
        "role_names": ROLE_NAMES,
        "page_data": page_data(data),
        "duration": prose.duration,
        "number": number,
    }


def _tiles(pick: Pick | None) -> tuple[Tile, ...]:
    if pick is None:
        return ()
    judged, words = pick.config.judged, pick.words
    drop = words.scaled(judged.score_drop)
    tiles = [
        Tile(figure(judged.speedup, "×"), f"the speed of {pick.reference_name}", f"95 % CI {interval(judged.speedup)}")
    ]
    if pick.config.rate is not None:
        rate = pick.config.rate
        tiles.insert(0, Tile(figure(rate), "requests a second", f"95 % CI {interval(rate)}"))
    gain = pick.speedup_vs_lossless
    if gain is not None:
        tiles.append(Tile(figure(gain, "×"), "the speed of the fastest lossless", f"95 % CI {interval(gain)}"))
    tiles += [
        Tile(figure(drop), f"{words.unit.strip() or 'units'} of {words.metric} lost", f"95 % CI {interval(drop)}"),
        Tile(
            words.score(judged.score),
            f"{words.metric} on {judged.split}",
            f"95 % CI {interval(words.scaled(judged.score))}",
        ),
        Tile(f"{figure(judged.latency_ms)} ms", "a sample", f"95 % CI {interval(judged.latency_ms)}"),
        Tile(prose.megabytes(judged.size_bytes), "on disk", f"{prose.megabytes(judged.peak_rss_bytes)} of memory"),
    ]
    return tuple(tiles)


def environment_lines(data: ReportData) -> tuple[tuple[str, str], ...]:
    """The environment's table."""
    where = data.environment
    lines = [
        ("processor", where.cpu),
        ("cores", str(where.cores)),
        ("memory", f"{number(where.memory_bytes / 1e9)} GB"),
        ("instructions", ", ".join(where.flags) or "not told"),
        *(() if where.gpu is None else (("GPU", f"{where.gpu.name}, driver {where.gpu.driver}"),)),
        ("system", where.system),
        ("python", where.python),
        *where.packages.items(),
        *data.facts.items(),
    ]
    return (*lines, *((("command", data.command),) if data.command else ()))


@functools.cache
def packed_plotly() -> str:
    """plotly.js, compressed by gzip, as base64."""
    from plotly.offline import get_plotlyjs

    # mtime=0: the same report gives the same bytes.
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)).decode()


def _read(name: str) -> str:
    return (resources.files("autoopt.report") / "page" / name).read_text(encoding="utf-8")
