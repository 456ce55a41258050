// Lines and points as SVG in the colours of the page.
const COLOURS = ["var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--open)", "var(--bad)", "var(--muted)", "var(--ink)"];
const colour = (i) => COLOURS[i % COLOURS.length];
const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
const dash = (i) => DASHES[Math.floor(i / COLOURS.length) % DASHES.length];

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Round numbers over a range; of a logarithmic one powers of ten, and what lies between few of them.
function ticks(low, high, log, most = 4) {
  if (log) {
    const found = [];
    for (let k = Math.floor(low); k <= Math.ceil(high); k++) for (const m of high - low < 2 ? [1, 2, 5] : [1]) found.push(k + Math.log10(m));
    const inside = found.filter((v) => v >= low - 1e-9 && v <= high + 1e-9);
    return inside.filter((_, i) => i % Math.ceil(inside.length / (most + 1)) === 0);
  }
  const rough = (high - low || 1) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return found;
}

const tickText = (value, log) => {
  const shown = log ? 10 ** value : value, size = Math.abs(shown);
  if (size >= 1e6) return `${+(shown / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(shown / 1e3).toPrecision(3)}k`;
  return size && size < 1e-3 ? shown.toExponential(0) : String(+shown.toPrecision(3));
};

// Axes over the range of points [[x, y], …]; gives the drawing and functions from values to places.
function axes(points, { width = 330, height = 190, logX = false, logY = false, x = "", y = "", lines = [] } = {}) {
  const scaled = (value, log) => (log ? Math.log10(Math.max(value, 1e-300)) : value);
  const range = (i, log) => {
    const values = [...points.map((p) => p[i]), ...lines.map((line) => line[i]).filter((v) => v !== undefined)].map((v) => scaled(v, log));
    let low = Math.min(...values), high = Math.max(...values);
    if (!Number.isFinite(low)) [low, high] = [0, 1];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    return i && !log && low >= 0 && low < 3 * room ? [0, high + room] : i ? [low - room, high + room] : lines.length || logX ? [low - room, high + room] : [low, high > low ? high : low + 1];
  };
  const [x0, x1] = range(0, logX), [y0, y1] = range(1, logY);
  const left = 44, right = 10, top = 8, bottom = x ? 34 : 20;
  const placeX = (v) => left + ((scaled(v, logX) - x0) / (x1 - x0)) * (width - left - right);
  const placeY = (v) => height - bottom - ((scaled(v, logY) - y0) / (y1 - y0)) * (height - top - bottom);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const back = (v, log) => (log ? 10 ** v : v);
  for (const v of ticks(y0, y1, logY)) {
    const at = placeY(back(v, logY)).toFixed(1);
    drawing.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }));
    drawing.append(svg("text", { x: left - 6, y: at, "text-anchor": "end", "dominant-baseline": "middle" }, tickText(v, logY)));
  }
  for (const v of ticks(x0, x1, logX, Math.min(10, Math.round(width / 70)))) drawing.append(svg("text", { x: placeX(back(v, logX)).toFixed(1), y: height - bottom + 14, "text-anchor": "middle" }, tickText(v, logX)));
  if (x) drawing.append(svg("text", { x: width - right, y: height - 4, "text-anchor": "end" }, x));
  if (y) drawing.append(svg("text", { x: left, y: top + 2, "text-anchor": "start" }, y));
  return { drawing, placeX, placeY, width, height, left, right, top, bottom };
}

const MOST = 400;
// series: [{ name, points: [[x, y], …], place }]; place: of its colour
function lineChart(title, series, options = {}) {
  const points = series.flatMap((one) => one.points);
  const values = points.map((p) => p[1]);
  const low = Math.min(...values), high = Math.max(...values);
  const chart = axes(points, { logY: low > 0 && high > 200 * low, ...options });
  for (const one of series) {
    const every = Math.ceil(one.points.length / MOST);
    const shownPoints = one.points.filter((_, i) => i % every === 0 || i === one.points.length - 1);
    const path = shownPoints.map(([x, y], i) => `${i ? "L" : "M"}${chart.placeX(x).toFixed(1)} ${chart.placeY(y).toFixed(1)}`).join("");
    const style = `stroke:${colour(one.place)}`;
    chart.drawing.append(shownPoints.length > 1
      ? svg("path", { class: "line", d: path, style, "stroke-dasharray": dash(one.place) })
      : svg("circle", { cx: chart.placeX(one.points[0][0]), cy: chart.placeY(one.points[0][1]), r: 3, style: `fill:${colour(one.place)}` }));
  }
  const last = series.map((one) => `${one.name} ${number(one.points.at(-1)[1])}`).join(", ");
  chart.drawing.setAttribute("aria-label", `${title}, last: ${last}`);
  return make("div", { className: "chart" }, make("h3", { textContent: title }), chart.drawing);
}

function legend(names) {
  return names.map((name, place) => {
    const mark = make("i", { style: `background:${colour(place)}` });
    return make("li", {}, mark, name);
  });
}
