"use strict";
// The page works without this script (tables are in the HTML); the script draws the plots and makes the table move.
(() => {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const byNumber = new Map(page.points.map((point) => [String(point.number), point]));
  const plot = document.getElementById("plot");
  const progress = document.getElementById("progress");
  const curves = document.getElementById("curves");
  const table = document.getElementById("table");
  const body = table && table.tBodies[0];
  let axis = "gain";
  let selected = null;

  // ---- the table -------------------------------------------------------------------------------------------------

  const pairs = () => [...body.querySelectorAll("tr.row")].map((row) => [row, row.nextElementSibling]);
  const rowOf = (number) => body && body.querySelector(`tr.row[data-number="${number}"]`);

  function sortBy(header) {
    const falling = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const column = header.cellIndex, numeric = header.dataset.kind === "number", sign = falling ? -1 : 1;
    const key = ([row]) => row.cells[column].dataset.key;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what has no figure stays last either way
      return sign * (numeric ? x - y : x.localeCompare(y, "en", { numeric: true }));
    };
    body.append(...pairs().sort(compare).flat());
  }

  function filter() {
    const words = document.getElementById("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const engine = document.getElementById("engine").value, outcome = document.getElementById("outcome").value;
    const frontOnly = document.getElementById("front-only").checked;
    let shown = 0;
    for (const [row, facts] of pairs()) {
      const text = (row.textContent + facts.textContent).toLowerCase();
      const fits = words.every((word) => text.includes(word)) && (!engine || row.dataset.engine === engine)
        && (!outcome || row.dataset.outcome === outcome) && (!frontOnly || row.classList.contains("front"));
      row.hidden = !fits;
      if (!fits) facts.hidden = true;
      shown += fits;
    }
    document.getElementById("shown").textContent = shown;
  }

  function select(number, { scroll = false, open = null } = {}) {
    selected = number;
    for (const row of body.querySelectorAll("tr.selected")) row.classList.remove("selected");
    const row = rowOf(number);
    if (row) {
      if (scroll && row.hidden) clearFilters();
      row.classList.add("selected");
      if (open !== null) row.nextElementSibling.hidden = !open;
      // Only the table scrolls: the plot that was clicked stays under the pointer.
      if (scroll) row.closest(".scroll").scrollTop = row.offsetTop - table.tHead.offsetHeight - 40;
    }
    if (plot && plot.data) ring();
  }

  function clearFilters() {
    for (const id of ["search", "engine", "outcome"]) document.getElementById(id).value = "";
    document.getElementById("front-only").checked = false;
    filter();
  }

  if (table) {
    for (const header of table.tHead.rows[0].cells) header.querySelector("button").addEventListener("click", () => sortBy(header));
    for (const id of ["search", "engine", "outcome", "front-only"]) document.getElementById(id).addEventListener("input", filter);
    const toggle = (row) => select(row.dataset.number, { open: row.nextElementSibling.hidden });
    body.addEventListener("click", (event) => { const row = event.target.closest("tr.row"); if (row) toggle(row); });
    body.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.matches("tr.row")) toggle(event.target); });
    for (const link of document.querySelectorAll("[data-go]")) {
      link.addEventListener("click", () => select(link.dataset.go, { scroll: true, open: true }));
    }
    filter(); // a browser that restores the form's state after a reload must restore the rows too
  }

  // ---- the plots -------------------------------------------------------------------------------------------------

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const has = (role) => (point) => point.roles.includes(role);
  const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
  const faint = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");
  const drawn = () => page.points.filter((point) => point.latency_ms[0] > 0 && point[axis][0] !== null);

  function hover(point) {
    const [model, served] = point.name.split(" | ").map(escape);
    const ties = point.ties.length ? `<br>cannot be told apart from ${point.ties.slice(0, 6).map((n) => "#" + n).join(", ")}${point.ties.length > 6 ? ", …" : ""}` : "";
    const wrapped = model.replace(/(.{48,}?[;,]) /g, "$1<br>");
    return `<b>#${point.number}</b> ${wrapped}<br>${served}<br><br>speed-up ${point.speedup_text}<br>${point.latency_text}`
      + `<br>${point.score_text} ${escape(point.split)}<br>${point.gain_text} against the reference${ties}`;
  }

  function bars(points, key, hex, alpha) {
    return {
      type: "data", symmetric: false, thickness: 1, width: 0, color: faint(hex, alpha),
      array: points.map((point) => point[key][2] - point[key][0]),
      arrayminus: points.map((point) => point[key][0] - point[key][1]),
    };
  }

  function trace(name, points, hex, marker, alpha = 0.6) {
    return {
      name, type: "scatter", mode: "markers",
      x: points.map((point) => point.latency_ms[0]), y: points.map((point) => point[axis][0]),
      error_x: bars(points, "latency_ms", hex, alpha), error_y: bars(points, axis, hex, alpha),
      customdata: points.map((point) => point.number), text: points.map(hover), hovertemplate: "%{text}<extra></extra>",
      marker: { color: hex, size: 9, line: { width: 1, color: colour("card") }, ...marker },
    };
  }

  function traces() {
    const points = drawn(), front = points.filter(has("front"));
    const special = ["pick", "reference", "lossless"];
    const plain = (point) => !special.some((role) => point.roles.includes(role));
    const open = (points) => ({ symbol: points.map((p) => (p.split === "validation" && front.some((f) => f.split !== "validation") ? "circle-open" : "circle")) });
    const others = points.filter((point) => plain(point) && !has("front")(point));
    const steps = [...front].sort((a, b) => a.latency_ms[0] - b.latency_ms[0]);
    const members = front.filter(plain);
    const one = (role) => points.filter((point) => point.roles.find((r) => special.includes(r)) === role);
    const made = [
      trace("others", others, colour("grey"), { size: 6, ...open(others), line: { width: 1, color: colour("grey") } }, 0.22),
      { name: "front line", type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false,
        x: steps.map((p) => p.latency_ms[0]), y: steps.map((p) => p[axis][0]),
        line: { shape: "hv", width: 2, color: faint(colour("accent"), 0.55) } },
      trace("front", members, colour("accent"), { size: 10 }),
      trace("lossless, fastest", one("lossless"), colour("good"), { symbol: "square", size: 12 }),
      trace("reference", one("reference"), colour("bad"), { symbol: "diamond", size: 13 }),
      trace("recommended", one("pick"), colour("star"), { symbol: "star", size: 18 }, 0.9),
      { name: "selected", type: "scatter", mode: "markers", showlegend: false, hoverinfo: "skip", x: [], y: [],
        marker: { symbol: "circle-open", size: 24, color: colour("ink"), line: { width: 2 } } },
    ];
    return made.filter((t) => t.mode === "lines" || t.name === "selected" || t.x.length);
  }

  // A range that shows what matters: configs that lost most of their score must not squeeze the front into a line.
  function scoreRange() {
    const points = drawn(), shown = points.filter((p) => p.roles.length).flatMap((p) => p[axis]);
    if (!shown.length) return undefined;
    const low = Math.min(...shown), high = Math.max(...shown), span = (high - low) || 1;
    const values = points.map((point) => point[axis][0]);
    const bottom = Math.max(Math.min(...values) - 0.1 * span, low - 0.8 * span);
    return [Math.min(bottom, low - 0.08 * span), Math.max(high, ...values) + 0.12 * span];
  }

  // 1, 2, 5 in each decade, spelt out: plotly's own ticks of a log axis leave the decade out.
  function latencyTicks(values) {
    const low = Math.min(...values), high = Math.max(...values), ticks = [];
    for (let decade = Math.floor(Math.log10(low)); decade <= Math.ceil(Math.log10(high)); decade++) {
      for (const digit of [1, 2, 5]) ticks.push(digit * 10 ** decade);
    }
    return { tickmode: "array", tickvals: ticks, ticktext: ticks.map((tick) => String(Number(tick.toPrecision(1)))) };
  }

  function layout(extra) {
    const line = { gridcolor: colour("grid"), zerolinecolor: colour("line"), linecolor: colour("line"), tickcolor: colour("line"), automargin: true };
    return {
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("quiet") },
      paper_bgcolor: "transparent", plot_bgcolor: "transparent", margin: { l: 56, r: 16, t: 12, b: 46 },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("grey"), align: "left", font: { family: getComputedStyle(document.body).fontFamily, color: colour("ink"), size: 12.5 } },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: "transparent" }, hovermode: "closest",
      modebar: { bgcolor: "transparent", color: colour("grey"), activecolor: colour("accent") },
      ...extra, xaxis: { ...line, ...extra.xaxis }, yaxis: { ...line, ...extra.yaxis },
    };
  }

  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

  function drawFront() {
    const reference = { type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { width: 1, dash: "dot", color: colour("grey") } };
    return Plotly.react(plot, traces(), layout({
      xaxis: { type: "log", title: { text: page.axes.latency, font: { size: 13 } }, ...latencyTicks(drawn().flatMap((p) => p.latency_ms)) },
      yaxis: { title: { text: axis === "gain" ? page.axes.drop : page.axes.score, font: { size: 13 } }, range: scoreRange(), zeroline: false },
      shapes: axis === "gain" ? [reference] : [],
    }), config).then(ring);
  }

  function ring() {
    const index = plot.data.findIndex((t) => t.name === "selected");
    const point = drawn().find((p) => String(p.number) === String(selected));
    return Plotly.restyle(plot, { x: [point ? [point.latency_ms[0]] : []], y: [point ? [point[axis][0]] : []] }, [index]);
  }

  function drawProgress() {
    const { elapsed_s, mean_speedup, number, end_s } = page.progress;
    if (!elapsed_s.length) return undefined;
    const minutes = end_s > 180, unit = minutes ? 60 : 1, last = mean_speedup.length - 1;
    return Plotly.react(progress, [{
      type: "scatter", mode: "lines", line: { shape: "hv", width: 2, color: colour("accent") },
      fill: "tozeroy", fillcolor: faint(colour("accent"), 0.1), customdata: [...number, number[last]],
      x: [...elapsed_s, end_s].map((s) => s / unit), y: [...mean_speedup, mean_speedup[last]],
      hovertemplate: `%{y:.2f}× after %{x:.1f} ${minutes ? "min" : "s"}, #%{customdata}<extra></extra>`,
    }], layout({
      showlegend: false, margin: { l: 44, r: 10, t: 8, b: 40 },
      xaxis: { title: { text: minutes ? "minutes" : "seconds", font: { size: 13 } }, range: [0, 1.02 * end_s / unit], zeroline: false },
      yaxis: { ticksuffix: "×", rangemode: "normal", zeroline: false, range: [Math.min(1, ...mean_speedup), 1.08 * Math.max(1.1, ...mean_speedup)] },
    }), { ...config, displayModeBar: false });
  }

  function drawCurves() {
    const { bound_ms, curves: drawn } = page.load, palette = ["star", "bad", "accent", "good", "grey", "ink"].map(colour);
    const line = (curve, key, hex, dash) => ({
      name: `#${curve.number}`, legendgroup: curve.number, showlegend: key === "p99_ms", type: "scatter", mode: "lines+markers",
      x: curve.rate, y: curve[key], customdata: curve.batch.map((batch) => [curve.number, batch]), line: { width: 2, dash, color: hex },
      marker: { size: 7, color: hex, symbol: curve.held.map((held) => (held ? "circle" : "circle-open")) },
      hovertemplate: `<b>#${curve.number}</b> ${escape(curve.name)}<br>%{x:.4~g} requests a second: ${key === "p99_ms" ? "99 % within" : "half within"} %{y:.3~g} ms`
        + `<br>mean batch %{customdata[1]:.2~f}<extra></extra>`,
    });
    const traces = drawn.flatMap((curve, index) => {
      const hex = palette[index % palette.length];
      return [line(curve, "p99_ms", hex, "solid"), { ...line(curve, "p50_ms", faint(hex, 0.55), "dot") }];
    });
    const values = drawn.flatMap((curve) => [...curve.p99_ms, ...curve.p50_ms]);
    return Plotly.react(curves, traces, layout({
      xaxis: { title: { text: "requests a second", font: { size: 13 } }, rangemode: "tozero", zeroline: false },
      yaxis: { type: "log", title: { text: "ms from arrival to answer (log scale)", font: { size: 13 } }, ...latencyTicks([...values, bound_ms]) },
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: bound_ms, y1: bound_ms, line: { width: 1, dash: "dot", color: colour("bad") } }],
    }), config);
  }

  const draw = () => Promise.all([plot && drawFront(), curves && drawCurves(), progress && drawProgress()]);

  async function loadPlotly() {
    const packed = atob(document.getElementById("plotly-gzip").textContent.trim());
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  }

  async function start() {
    if (!plot && !progress && !curves) return;
    await loadPlotly();
    await draw();
    if (plot) plot.on("plotly_click", (event) => {
      const number = event.points[0].customdata;
      if (byNumber.has(String(number))) select(number, { scroll: true });
    });
    for (const button of document.querySelectorAll("[data-axis]")) {
      button.addEventListener("click", () => {
        axis = button.dataset.axis;
        for (const other of document.querySelectorAll("[data-axis]")) other.setAttribute("aria-pressed", String(other === button));
        drawFront();
      });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    document.body.dataset.drawn = "true";
  }

  start().catch((error) => {
    for (const place of [plot, curves, progress]) if (place) place.textContent = `The plot could not be drawn: ${error.message}. The tables hold the same numbers.`;
    throw error;
  });
})();
