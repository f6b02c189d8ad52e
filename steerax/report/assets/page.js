"use strict";
// Draws every figure of the page from its data; redraws on a new width, a new colour scheme or a new query.
const figures = JSON.parse(document.getElementById("figures").textContent);
const links = {}; // link name -> {row, draw: [functions to call when the row changes]}

function node(tag, attributes, parent, text) {
  const html = ["div", "label", "select", "option", "input", "span", "output", "canvas"].includes(tag);
  const made = html ? document.createElement(tag) : document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}
const DASHES = ["none", "8 3", "3 3", "8 3 3 3"];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const finite = (values) => values.filter((v) => v !== null && Number.isFinite(v));

function short(v, digits = 3) {
  if (v === 0) return "0";
  const size = Math.abs(v);
  if (size >= 1e5 || size < 1e-3) return v.toExponential(digits - (size >= 1e5 ? 3 : 2)).replace("e+", "e").replace(/\.0+e/, "e");
  return String(+v.toPrecision(digits));
}
function shortAll(values) { // as few digits, from three on, as tell them apart
  let digits = 3, out = values.map((v) => short(v));
  while (digits < 12 && new Set(out).size < new Set(values).size) { digits += 1; out = values.map((v) => short(v, digits)); }
  return out;
}
function ticks(low, high, count, log) {
  if (log) {
    if (high / low < 30) { // less than a decade and a half: 1, 2, 5 in each decade
      const out = [];
      for (let k = Math.floor(Math.log10(low)); k <= Math.log10(high); k++)
        for (const m of [1, 2, 5]) if (m * 10 ** k >= low && m * 10 ** k <= high) out.push(m * 10 ** k);
      return out;
    }
    const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
    const every = Math.max(1, Math.ceil((last - first + 1) / count)), out = [];
    for (let k = first; k <= last; k += every) out.push(10 ** k);
    return out.length ? out : [low, high];
  }
  const raw = (high - low) / Math.max(count, 1), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) || raw, out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(+v.toPrecision(12));
  return out;
}
function scale(low, high, from, to, log) {
  const f = log ? Math.log10 : (v) => v, a = f(low), b = f(high) === a ? a + 1 : f(high);
  return (v) => from + ((f(v) - a) / (b - a)) * (to - from);
}
function canvasSvg(host, width, height, label) {
  return node("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label }, host);
}
function xAxis(svg, x, values, y, left, right, label) {
  node("line", { x1: left, x2: right, y1: y, y2: y, class: "axis" }, svg);
  const texts = shortAll(values);
  values.forEach((v, i) => {
    node("line", { x1: x(v), x2: x(v), y1: y, y2: y + 4, class: "axis" }, svg);
    node("text", { x: x(v), y: y + 17, "text-anchor": "middle", class: "soft" }, svg, texts[i]);
  });
  node("text", { x: (left + right) / 2, y: y + 35, "text-anchor": "middle" }, svg, label);
}
const wide = (text) => 6.6 * text.length; // close enough to the width of 12 px text

// ---- dots: one row per method, horizontal ---------------------------------------------------------------------
function drawDots(host, figure, width) {
  const rows = figure.rows, names = Math.min(Math.max(...rows.map((r) => wide(r.label))) + 12, width * 0.46);
  const left = names, right = width - 62, step = 26, top = figure.reference ? 22 : 6, bottom = top + rows.length * step;
  const svg = canvasSvg(host, width, bottom + 44, figure.title);
  const all = rows.flatMap((r) => [r.value - 2 * r.error, r.value + 2 * r.error]);
  if (figure.reference) all.push(figure.reference.value);
  let low = Math.min(...finite(all)), high = Math.max(...finite(all)), pad = (high - low || Math.abs(high) || 1) * 0.06;
  const x = scale(low - pad, high + pad, left, right);
  xAxis(svg, x, ticks(low - pad, high + pad, Math.max(2, Math.floor((right - left) / 90))), bottom + 2, left, right, figure.x_label);
  if (figure.reference) {
    const at = x(figure.reference.value);
    node("line", { x1: at, x2: at, y1: top - 4, y2: bottom + 2, class: "frame", "stroke-dasharray": "4 3" }, svg);
    node("text", { x: at, y: top - 9, "text-anchor": at > width * 0.7 ? "end" : at < width * 0.3 ? "start" : "middle" }, svg,
      `${figure.reference.label} ${short4(figure.reference.value)}`);
  }
  rows.forEach((r, i) => {
    const y = top + step * (i + 0.5), colour = `var(--${r.role})`;
    node("line", { x1: left, x2: right, y1: y, y2: y, class: "axis", "stroke-dasharray": "1 4" }, svg);
    node("text", { x: left - 10, y: y + 4, "text-anchor": "end" }, svg, fit(r.label, names - 12));
    if (r.value === null) { node("text", { x: left + 6, y: y + 4, class: "soft" }, svg, "infinite"); return; }
    if (r.error) node("line", { x1: x(r.value - 2 * r.error), x2: x(r.value + 2 * r.error), y1: y, y2: y, stroke: colour, "stroke-width": 3, "stroke-linecap": "round" }, svg);
    node("circle", { cx: x(r.value), cy: y, r: 5, fill: colour }, svg);
    node("text", { x: right + 10, y: y + 4 }, svg, short4(r.value));
  });
  if (rows.some((r) => r.error)) node("div", { class: "controls" }, host).append(node("span", { class: "note" }, null, figure.error_label));
}
const short4 = (v) => (Math.abs(v) >= 1e-3 && Math.abs(v) < 1e4 ? String(+v.toPrecision(4)) : short(v));
const fit = (text, room) => (wide(text) <= room ? text : text.slice(0, Math.max(3, Math.floor(room / 6.6) - 1)) + "…");

// ---- lines ----------------------------------------------------------------------------------------------------
function drawLines(host, figure, width) {
  const series = figure.series, positive = (v) => !figure.log_y || v > 0;
  const keepX = (v) => !figure.log_x || v > 0;
  const xs = finite(series.flatMap((s) => s.x)).filter(keepX);
  const ys = finite(series.flatMap((s) => [...s.y, ...(s.low || []), ...(s.high || [])])).filter(positive);
  if (figure.reference) ys.push(figure.reference.value);
  if (!xs.length || !ys.length) { node("div", {}, host, "Nothing to draw: every value is zero or infinite."); return; }
  let low = Math.min(...ys), high = Math.max(...ys);
  if (figure.log_y) { low /= 1.5; high *= 1.5; } else { const pad = (high - low || Math.abs(high) || 1) * 0.06; low -= pad; high += pad; }
  const labelled = [...series, ...(figure.reference ? [figure.reference] : [])];
  const names = Math.max(...labelled.map((s) => wide(s.label))) + 14, below = names > width * 0.34; // no room beside: labels below
  const left = 58, right = width - (below ? 12 : names), top = 24, bottom = 250;
  const svg = canvasSvg(host, width, bottom + 42 + (below ? 16 * labelled.length + 6 : 0), figure.title);
  let first = Math.min(...xs), last = Math.max(...xs);
  if (first === last) [first, last] = figure.log_x ? [first / 2, last * 2] : [first - 1, last + 1];
  const x = scale(first, last, left + 4, right, figure.log_x), y = scale(low, high, bottom, top, figure.log_y);
  xAxis(svg, x, ticks(first, last, Math.max(2, Math.floor((right - left) / 80)), figure.log_x), bottom, left, right, figure.x_label);
  const marks = ticks(low, high, 5, figure.log_y), texts = shortAll(marks);
  marks.forEach((v, i) => {
    node("line", { x1: left, x2: right, y1: y(v), y2: y(v), class: "axis" }, svg);
    node("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end", class: "soft" }, svg, texts[i]);
  });
  node("text", { x: 0, y: 12 }, svg, figure.y_label);
  const clip = (v) => (v === null || !Number.isFinite(v) ? null : !positive(v) ? bottom : y(v));
  const labels = [], used = {}; // curves of one role differ by their dashes
  if (figure.reference) {
    const at = y(figure.reference.value);
    node("line", { x1: left, x2: right, y1: at, y2: at, class: "frame", "stroke-dasharray": "4 3" }, svg);
    labels.push({ at, text: figure.reference.label, colour: "var(--floor)", dashes: "4 3" });
  }
  for (const s of series) {
    // on a logarithmic axis a curve leaves the picture where it reaches zero, and may come back
    const shown = (i) => positive(s.y[i]) || (i > 0 && positive(s.y[i - 1])) || (i + 1 < s.y.length && positive(s.y[i + 1]));
    const points = s.x.map((v, i) => [keepX(v) && shown(i) ? x(v) : null, clip(s.y[i])]).filter((p) => p[0] !== null && p[1] !== null);
    if (s.low) {
      const band = s.x.map((v, i) => [x(v), clip(s.low[i]), clip(s.high[i])]).filter((p) => p[1] !== null && p[2] !== null);
      node("path", { d: "M" + band.map((p) => `${p[0]} ${p[1]}`).join("L") + "L" + band.reverse().map((p) => `${p[0]} ${p[2]}`).join("L") + "Z", fill: `var(--${s.role})`, opacity: 0.18 }, svg);
    }
    const dashes = DASHES[(used[s.role] = (used[s.role] ?? -1) + 1) % DASHES.length];
    if (!points.length) continue;
    node("path", { d: "M" + points.map((p) => `${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("L"), class: "curve", stroke: `var(--${s.role})`, "stroke-dasharray": dashes }, svg);
    if (points.length <= 40) for (const p of points) node("circle", { cx: p[0], cy: p[1], r: 3, fill: `var(--${s.role})` }, svg);
    labels.push({ at: points[points.length - 1][1], text: s.label, colour: `var(--${s.role})`, dashes });
  }
  labels.sort((a, b) => a.at - b.at).forEach((l, i) => { if (i) l.at = Math.max(l.at, labels[i - 1].at + 14); });
  labels.forEach((l, i) => {
    const height = below ? bottom + 56 + 16 * i : l.at + 4;
    if (below) node("line", { x1: left, x2: left + 26, y1: height - 4, y2: height - 4, class: "curve", stroke: l.colour, "stroke-dasharray": l.dashes }, svg);
    node("text", { x: below ? left + 34 : right + 7, y: height }, svg, l.text).style.fill = l.colour;
  });
}

// ---- matrix: a heat map ---------------------------------------------------------------------------------------
function mixer(diverging) {
  const parse = (text) => { const c = text.replace("#", ""); return [0, 2, 4].map((i) => parseInt(c.slice(i, i + 2), 16)); };
  const paper = parse(css("--paper")), up = parse(css(diverging ? "--transformer" : "--filter")), down = parse(css("--filter"));
  return (v) => { const end = diverging && v < 0 ? down : up, w = Math.min(1, Math.abs(v)); return paper.map((p, i) => Math.round(p + (end[i] - p) * w)); };
}
function picture(values, limit, diverging) {
  const canvas = document.createElement("canvas"), rows = values.length, columns = values[0].length, colour = mixer(diverging);
  canvas.width = columns; canvas.height = rows;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  values.forEach((row, r) => row.forEach((v, c) => { // square root: small weights stay visible
    const scaled = v === null ? 0 : Math.sign(v) * Math.sqrt(Math.abs(v) / (limit || 1));
    image.data.set([...colour(scaled), 255], 4 * (r * columns + c));
  }));
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}
function chooser(host, figure, label, choices, draw) {
  const names = Object.keys(choices), state = (figure.chosen ??= {}), key = label;
  state[key] ??= names[0];
  if (names.length < 2) return;
  const box = node("label", {}, host, label + " "), menu = node("select", {}, box);
  for (const name of names) { const option = node("option", { value: name }, menu, name); option.selected = name === state[key]; }
  menu.addEventListener("change", () => { state[key] = menu.value; draw(); });
}
const chosen = (figure, label, choices) => choices[figure.chosen?.[label] ?? Object.keys(choices)[0]];

function drawMatrix(host, figure, width) {
  const redraw = () => { host.replaceChildren(); drawMatrix(host, figure, width); };
  chooser(node("div", { class: "controls" }, host), figure, "Show", figure.choices, redraw);
  const values = chosen(figure, "Show", figure.choices), rows = values.length, columns = values[0].length;
  const left = figure.row_labels ? Math.min(Math.max(...figure.row_labels.map(wide)) + 10, 120) : 44;
  const size = Math.min(width - left - 70, 560), tall = rows > 3 ? Math.max(Math.min(size * (rows / columns), 560), figure.row_labels ? 15 * rows : 0) : 34 * rows;
  const top = 24, limit = Math.max(...finite(values.flat()).map(Math.abs), 0);
  const svg = canvasSvg(host, width, top + tall + 44, figure.title), right = left + size;
  node("text", { x: 0, y: 12 }, svg, figure.y_label);
  node("image", { href: picture(values, limit, figure.diverging), x: left, y: top, width: size, height: tall, preserveAspectRatio: "none" }, svg);
  node("rect", { x: left, y: top, width: size, height: tall, class: "frame" }, svg);
  const y = (r) => top + ((r + 0.5) * tall) / rows, x = (c) => left + ((c + 0.5) * size) / columns;
  const rowTicks = figure.row_labels ? figure.row_labels.map((_, i) => i) : ticks(0, rows - 1, 6).filter(Number.isInteger);
  for (const r of rowTicks) node("text", { x: left - 6, y: y(r) + 4, "text-anchor": "end", class: "soft" }, svg, figure.row_labels ? figure.row_labels[r] : r);
  if (figure.columns && size / columns >= 7.5) {
    figure.columns.forEach((t, c) => node("text", { x: x(c), y: top + tall + 14, "text-anchor": "middle", class: "soft" }, svg, t));
    node("text", { x: left + size / 2, y: top + tall + 34, "text-anchor": "middle" }, svg, figure.x_label);
  } else xAxis(svg, x, ticks(0, columns - 1, Math.max(2, Math.floor(size / 60))).filter(Number.isInteger), top + tall, left, right, figure.x_label);
  legend(svg, right + 14, top, Math.min(tall, 120), limit, figure);
  if (!figure.link) return;
  const mark = node("rect", { x: left, width: size, height: Math.max(tall / rows, 3), class: "row-mark" }, svg);
  const place = () => mark.setAttribute("y", top + (links[figure.link].row * tall) / rows);
  place(); figure.follow = place;
  const hit = node("rect", { x: left, y: top, width: size, height: tall, class: "hit" }, svg);
  hit.addEventListener("click", (event) => choose(figure.link, Math.floor(((event.clientY - hit.getBoundingClientRect().top) / hit.getBoundingClientRect().height) * rows)));
}
function legend(svg, x, top, tall, limit, figure) {
  const colour = mixer(figure.diverging), steps = 24;
  for (let i = 0; i < steps; i++) {
    const f = figure.diverging ? 1 - (2 * i) / (steps - 1) : 1 - i / (steps - 1);
    node("rect", { x, y: top + (i * tall) / steps, width: 10, height: tall / steps + 0.5, fill: `rgb(${colour(f).join()})` }, svg);
  }
  const marks = figure.diverging ? [limit, 0, -limit] : [limit, limit / 4, 0];
  marks.forEach((v, i) => node("text", { x: x + 14, y: top + 8 + (i * (tall - 8)) / 2, class: "soft" }, svg, short(v)));
  node("text", { x: x + 30, y: 12, "text-anchor": "end", class: "soft" }, svg, figure.value_label);
}

// ---- profile: bars per step for the chosen query --------------------------------------------------------------
function drawProfile(host, figure, width) {
  const redraw = () => { host.replaceChildren(); drawProfile(host, figure, width); };
  const link = links[figure.link], last = figure.query_notes.length - 1, controls = node("div", { class: "controls" }, host);
  const label = node("label", { for: "slider-" + figure.link }, controls, "Query after step ");
  const output = node("output", {}, label);
  const slider = node("input", { type: "range", min: 0, max: last, step: 1, id: "slider-" + figure.link }, controls);
  slider.addEventListener("input", () => choose(figure.link, +slider.value));
  for (const panel of figure.panels) chooser(controls, figure, panel.label, panel.choices, redraw);
  const note = node("span", { class: "note" }, controls);
  const bars = node("div", {}, host);
  const draw = () => {
    slider.value = link.row; output.textContent = link.row; note.textContent = figure.query_notes[link.row];
    bars.replaceChildren(); drawBars(bars, figure, width, link.row);
  };
  draw(); figure.follow = draw;
}
function drawBars(host, figure, width, query) {
  const n = figure.tokens.length, left = 44, right = width - 6, each = 74, gap = 26;
  const svg = canvasSvg(host, width, figure.panels.length * (each + gap) + 56, figure.title), x = (s) => left + ((s + 0.5) * (right - left)) / n;
  const slot = (right - left) / n, bar = Math.max(slot * 0.72, 1);
  figure.panels.forEach((panel, i) => {
    const all = chosen(figure, panel.label, panel.choices), row = all[query] || [], top = i * (each + gap) + gap - 6;
    const peak = Math.max(...finite(row).map(Math.abs), 0), signed = finite(all.flat()).some((v) => v < 0);
    const base = signed ? top + each / 2 : top + each, reach = signed ? each / 2 : each;
    (figure.highlight || []).forEach((h, s) => h && node("rect", { x: x(s) - slot / 2, y: top, width: slot, height: each, class: "mark" }, svg));
    node("text", { x: 0, y: top - 6 }, svg, panel.label);
    node("line", { x1: left, x2: right, y1: base, y2: base, class: "axis" }, svg);
    const ends = peak ? (signed ? [peak, -peak] : [peak]) : [];
    for (const v of ends) node("text", { x: left - 5, y: base - (Math.sign(v) * reach) + (v > 0 ? 9 : 0), "text-anchor": "end", class: "soft" }, svg, short(v));
    row.forEach((v, s) => {
      if (v === null || s >= query || !peak) return;
      const tall = (Math.abs(v) / peak) * reach;
      const made = node("rect", { x: x(s) - bar / 2, width: bar, y: v < 0 ? base : base - tall, height: tall, fill: `var(--${panel.role})` }, svg);
      node("title", {}, made, `step ${s + 1}, token ${figure.tokens[s]}: ${short(v)}`);
    });
    if (!peak) node("text", { x: left + 8, y: base - 8, class: "soft" }, svg, query ? "all zero" : "no token seen yet");
  });
  const foot = figure.panels.length * (each + gap) + 10;
  const stride = Math.ceil(9 / slot); // at narrow widths show every stride-th token
  figure.tokens.forEach((t, s) => {
    if (s % stride && stride > 1) return;
    const made = node("text", { x: x(s), y: foot + 10, "text-anchor": "middle", "font-family": "monospace" }, svg, t);
    made.style.opacity = s < query ? 1 : 0.35;
  });
  node("text", { x: (left + right) / 2, y: foot + 34, "text-anchor": "middle" }, svg, figure.x_label);
}

// ---- graph: a Markov chain on a circle ------------------------------------------------------------------------
function drawGraph(host, figure, width) {
  const n = figure.labels.length, side = Math.min(width, 420), middle = side / 2, r = 15, reach = middle - 2.6 * r;
  const svg = canvasSvg(host, side, side, figure.title), at = (i) => (2 * Math.PI * i) / n - Math.PI / 2;
  svg.setAttribute("viewBox", `${(side - width) / 2} 0 ${width} ${side}`);
  const place = (i) => [middle + reach * Math.cos(at(i)), middle + reach * Math.sin(at(i))];
  for (const [i, j, p] of figure.edges) {
    let [x0, y0] = place(i), [x1, y1] = place(j), label, path;
    if (i === j) { // a loop outside the circle
      const [ux, uy] = [Math.cos(at(i)), Math.sin(at(i))], [ox, oy] = [x0 + ux * r, y0 + uy * r];
      path = `M${ox - uy * 6} ${oy + ux * 6}C${ox + ux * 26 - uy * 18} ${oy + uy * 26 + ux * 18} ${ox + ux * 26 + uy * 18} ${oy + uy * 26 - ux * 18} ${ox + uy * 6} ${oy - ux * 6}`;
      label = [ox + ux * 26, oy + uy * 26];
    } else {
      const length = Math.hypot(x1 - x0, y1 - y0), [ux, uy] = [(x1 - x0) / length, (y1 - y0) / length], bend = 0.12 * length;
      const control = [(x0 + x1) / 2 + uy * bend, (y0 + y1) / 2 - ux * bend];
      const end = Math.hypot(x1 - control[0], y1 - control[1]);
      x1 -= ((x1 - control[0]) / end) * (r + 5); y1 -= ((y1 - control[1]) / end) * (r + 5);
      path = `M${x0} ${y0}Q${control[0]} ${control[1]} ${x1} ${y1}`;
      label = [(x0 + 2 * control[0] + x1) / 4, (y0 + 2 * control[1] + y1) / 4];
      const angle = Math.atan2(y1 - control[1], x1 - control[0]);
      const corner = (turn) => `${x1 + 5 * Math.cos(angle + turn)} ${y1 + 5 * Math.sin(angle + turn)}`;
      node("path", { d: `M${corner(0)}L${corner(2.4)}L${corner(-2.4)}Z`, fill: "var(--soft)" }, svg);
    }
    node("path", { d: path, class: "frame" }, svg);
    if (p < 1) node("text", { x: label[0], y: label[1] - 4, "text-anchor": "middle" }, svg, short(p));
  }
  figure.labels.forEach((name, i) => {
    const [x, y] = place(i);
    node("circle", { cx: x, cy: y, r, class: "state" + (figure.filled[i] ? " filled" : "") }, svg);
    const made = node("text", { x, y: y + 4, "text-anchor": "middle" }, svg, name);
    if (figure.filled[i]) made.style.fill = "var(--paper)";
  });
}

// ---- the page -------------------------------------------------------------------------------------------------
function choose(name, row) {
  const link = links[name];
  link.row = Math.max(0, Math.min(link.rows - 1, row));
  for (const figure of figures) if (figure.link === name && figure.follow) figure.follow();
}
const draws = { dots: drawDots, lines: drawLines, matrix: drawMatrix, profile: drawProfile, graph: drawGraph };
for (const figure of figures) {
  if (!figure.link) continue;
  const rows = figure.query_notes ? figure.query_notes.length : Object.values(figure.choices)[0].length;
  links[figure.link] ??= { rows, row: rows - 1 };
}
function drawAll() {
  for (const host of document.querySelectorAll("[data-figure]")) {
    const figure = figures[+host.dataset.figure];
    if (host.clientWidth < 1) continue; // not laid out yet; the resize that follows draws it
    host.replaceChildren();
    draws[figure.kind](host, figure, host.clientWidth);
  }
}
let drawn = 0;
new ResizeObserver(() => { if (drawn !== document.body.clientWidth) { drawn = document.body.clientWidth; drawAll(); } }).observe(document.body);
matchMedia("screen and (prefers-color-scheme: dark)").addEventListener("change", drawAll);
