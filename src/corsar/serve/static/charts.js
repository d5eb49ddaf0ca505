// Charts: plotly's own script, loaded from this service when the first chart is drawn, and only where it is installed.

import { byId, count, fillTable } from "./make.js";

const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const hasCharts = document.documentElement.dataset.charts === "yes";
const drawn = new Map(); // id of the place -> what makes the figure, for a change between light and dark
let loading = null;

function load() {
  loading ??= new Promise((go, fail) => {
    const script = document.createElement("script");
    script.src = "static/plotly.min.js";
    script.onload = () => go(globalThis.Plotly);
    script.onerror = () => fail(new Error("plotly's script cannot be loaded"));
    document.head.append(script);
  });
  return loading;
}

async function draw(id, figure) {
  const place = byId(id);
  place.hidden = !hasCharts || !figure;
  if (place.hidden) return;
  drawn.set(id, figure);
  const Plotly = await load();
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const { data, layout } = figure(colour);
  const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true };
  await Plotly.react(place, data, {
    margin: { l: 50, r: 16, t: 10, b: 44 }, dragmode: false, hovermode: "closest", ...layout,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("ink"), family: style.fontFamily, size: 13 },
    xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  }, { displayModeBar: false, responsive: true });
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((figure, id) => draw(id, figure)));

const hours = (number) => {
  if (number >= 48) return `${+(number / 24).toFixed(1)} days`;
  return number % 1 ? `${number.toFixed(1)} hours` : count(number, "hour");
};

/** Draw the rhythm of a person; what the charts show stands in sentences and tables too. */
export async function drawRhythm(told) {
  const { lags, week } = told;
  const above = lags.filter((lag) => lag.correlation > lag.chance).length;
  const found = told.period_hours
    ? `The first high peak is at ${hours(told.period_hours)} (correlation ${told.strength.toFixed(2)}).`
    : "No lag stands out from what chance alone would make.";
  byId("lags-say").textContent = lags.length
    ? `${count(told.events, "event")} in bins of ${hours(told.bin_hours)}. ${found} `
      + `${above} of ${lags.length} lags are above the grey band, where chance alone stays in 19 of 20; about ${Math.round(lags.length / 40)} would be.`
    : told.notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`).join(" ");
  byId("lags-all").hidden = !lags.length;
  fillTable(byId("lags-table"), ["lag in hours", "correlation", "chance"],
    lags.map((lag) => [lag.hours, lag.correlation.toFixed(3), lag.chance.toFixed(3)]));
  byId("week-all").hidden = !week;
  byId("week-say").textContent = week ? weekSentence(told) : "";
  fillTable(byId("week-table"), ["day", ...Array(24).keys()].map(String), (week ?? []).map((day, at) => [DAYS[at], ...day]));
  await Promise.all([
    draw("lags-chart", lags.length ? (colour) => lagFigure(told, colour) : null),
    draw("week-chart", week ? (colour) => weekFigure(told, colour) : null),
  ]);
}

function weekSentence({ week, clock }) {
  const all = week.flatMap((day, d) => day.map((events, hour) => ({ events, d, hour })));
  const best = all.reduce((one, other) => (other.events > one.events ? other : one));
  const where = clock === "local" ? "by the person's own clock" : "UTC";
  return `Most often on ${DAYS[best.d]} from ${best.hour}:00 to ${best.hour + 1}:00 (${count(best.events, "event")}), ${where}.`;
}

function lagFigure(told, colour) {
  const unit = told.bin_hours < 24 && told.lags.at(-1).hours <= 14 * 24 ? ["hours", 1] : ["days", 24];
  const x = told.lags.map((lag) => lag.hours / unit[1]);
  const band = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
  const shapes = told.period_hours ? [{ type: "line", x0: told.period_hours / unit[1], x1: told.period_hours / unit[1], y0: 0, y1: 1,
    yref: "paper", line: { color: colour("search"), width: 2, dash: "dash" } }] : [];
  const notes = told.period_hours ? [{ x: told.period_hours / unit[1], y: 1, yref: "paper", text: `period ${hours(told.period_hours)}`,
    showarrow: false, xanchor: "left", yanchor: "top", xshift: 4 }] : [];
  return {
    data: [
      { ...band, y: told.lags.map((lag) => -lag.chance) },
      { ...band, y: told.lags.map((lag) => lag.chance), fill: "tonexty", fillcolor: colour("haze") },
      { type: "bar", x, y: told.lags.map((lag) => lag.correlation), marker: { color: colour("feed"), line: { width: 0 } },
        hovertemplate: `%{x:.4~g} ${unit[0]}: %{y:.3f}<extra></extra>`, showlegend: false },
    ],
    layout: { height: 320, bargap: 0.1, xaxis: { title: { text: `lag in ${unit[0]}` } }, yaxis: { title: { text: "correlation" } },
      shapes, annotations: notes },
  };
}

function weekFigure({ week, clock }, colour) {
  return {
    data: [{ type: "heatmap", x: [...Array(24).keys()], y: DAYS, z: week, xgap: 2, ygap: 2, colorscale: [[0, colour("shade")], [1, colour("feed")]],
      hovertemplate: "%{y}, %{x}:00: %{z}<extra></extra>", colorbar: { thickness: 10, outlinewidth: 0, dtick: Math.max(1, Math.ceil(Math.max(...week.flat()) / 4)), title: { text: "events", side: "right" } } }],
    layout: { height: 300, xaxis: { title: { text: clock === "local" ? "local hour" : "hour, UTC" }, dtick: 3, showgrid: false },
      yaxis: { autorange: "reversed", showgrid: false } },
  };
}

/** Draw where a person was and where they may go: longitude and latitude on one scale, no tiles. */
export async function drawMap(places, visits, newest, candidates) {
  const at = new Map(places.map((place) => [String(place.item_id), place]));
  const been = [...visits].filter(([id]) => at.has(id));
  const next = candidates.map((item, n) => ({ ...item, rank: n + 1 })).filter((item) => at.has(String(item.item_id)));
  byId("map-say").textContent = places.length
    ? `${count(been.length, "place")} of the history (circles, larger with more visits), the newest as a star, candidates as numbered diamonds.`
    : "No place of this person is known.";
  if (!places.length) return draw("map-chart", null);
  const points = (ids, name, marker, told, more = {}) => ({
    type: "scatter", mode: "markers", name, x: ids.map((id) => at.get(id).lon_deg), y: ids.map((id) => at.get(id).lat_deg),
    hovertext: told, hoverinfo: "text", marker: { opacity: 0.9, ...marker }, ...more });
  const text = (id) => `${at.get(id).text || "item"} (${id})`;
  const ids = next.map((item) => String(item.item_id));
  const middle = places.reduce((sum, place) => sum + place.lat_deg, 0) / places.length;
  return draw("map-chart", (colour) => ({
    data: [
      points(been.map(([id]) => id), "history", { color: colour("feed"), opacity: 0.4, size: been.map(([, n]) => 8 + 5 * Math.log2(n)) },
        been.map(([id, n]) => `${text(id)}<br>${count(n, "visit")}`)),
      points(ids, "candidates", { color: colour("search"), size: 11, symbol: "diamond" }, next.map((item, n) => `${text(ids[n])}<br>rank ${item.rank}`),
        { mode: "markers+text", text: next.map((item) => String(item.rank)), textposition: "top center" }),
      points(at.has(newest) ? [newest] : [], "newest check-in", { color: colour("checkin"), size: 15, symbol: "star" }, at.has(newest) ? [text(newest)] : []),
    ],
    layout: { height: 520, legend: { orientation: "h", y: 1.08 }, xaxis: { title: { text: "longitude" }, zeroline: false },
      yaxis: { title: { text: "latitude" }, zeroline: false, scaleanchor: "x", scaleratio: 1 / Math.max(0.05, Math.cos((middle * Math.PI) / 180)) } },
  }));
}
