
// ---- clouds: the same points at other places, panel beside panel ----------------------------------------------
function pigments(figure) { // weights -> colour: the corner colours of the page, mixed as light is
  const hex = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16) / 255);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const shown = (v) => Math.round(255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055));
  const ends = figure.roles.map((role) => hex(css("--" + role)).map(linear));
  return (weights) => `rgb(${[0, 1, 2].map((c) => shown(weights.reduce((sum, w, k) => sum + w * ends[k][c], 0))).join()})`;
}
function cloudSpace(figure, view, room) { // one scale for all panels: size of a panel, and place of (x, y) in it
  const [[x0, y0], [x1, y1]] = view, cx = (x0 + x1) / 2, cy = (y0 + y1) / 2;
  const outward = (x, y) => { const far = Math.hypot(x - cx, y - cy) || 1; return [(x - cx) / far, (cy - y) / far]; };
  const beside = figure.corners.filter(([x, y]) => Math.abs(outward(x, y)[1]) < 0.4).map((c) => wide(c[2]) + 16);
  const across = Math.max(14, ...beside), down = figure.corners.length > beside.length ? 28 : 14;
  const scaled = Math.min((room - 2 * across) / (x1 - x0), 560 / (y1 - y0));
  const width = scaled * (x1 - x0) + 2 * across, height = scaled * (y1 - y0) + 2 * down;
  const clamp = (v, low, high) => Math.max(low, Math.min(high, v));
  const free = (x, y) => [across + scaled * (x - x0), down + scaled * (y1 - y)];
  return { width, height, scaled, outward, free, place: (x, y) => free(clamp(x, x0, x1), clamp(y, y0, y1)) };
}
function cloudBack(plot, figure, space, mix) { // the outline, and the labels of its corners
  const svg = node("svg", { viewBox: `0 0 ${space.width} ${space.height}`, "aria-hidden": "true" }, plot);
  const sheet = node("svg", { width: space.width, height: space.height, class: "sheet" }, svg); // cuts the outline of a closer view
  if (figure.outline === "disc") {
    const [cx, cy] = space.free(0, 0);
    node("circle", { cx, cy, r: space.scaled, class: "outline" }, sheet);
  } else if (figure.outline) node("polygon", { points: figure.outline.map((p) => space.free(...p).join()).join(" "), class: "outline" }, sheet);
  const swatches = figure.corners.length === figure.roles.length && !figure.roles.includes("card");
  figure.corners.forEach(([x, y, name], i) => {
    const [px, py] = space.place(x, y), [ux, uy] = space.outward(x, y);
    const [fx, fy] = space.free(x, y), seen = Math.hypot(fx - px, fy - py) < 24, own = mix(figure.roles.map((_, k) => (k === i ? 1 : 0)));
    if (swatches && seen) node("circle", { cx: px, cy: py, r: 4.5, fill: own, class: "swatch" }, svg);
    const text = seen ? name : "toward " + name, half = wide(text) / 2;
    const level = Math.abs(uy) < 0.4, anchor = !level ? "middle" : ux < 0 ? "end" : "start";
    const at = level ? [px + 11 * Math.sign(ux), py + 4] : [Math.max(half, Math.min(space.width - half, px)), uy < 0 ? py - 12 : py + 21];
    node("text", { x: at[0], y: at[1], "text-anchor": anchor }, svg, text).style.fill = swatches && !seen ? own : "";
  });
}
function cloudPoints(plot, spots, colours, space) {
  const canvas = node("canvas", { "aria-hidden": "true" }, plot), fine = Math.max(2, window.devicePixelRatio || 1); // 2: crisp in print
  canvas.width = Math.round(space.width * fine); canvas.height = Math.round(space.height * fine);
  const context = canvas.getContext("2d");
  const places = new Set(spots.map(([x, y]) => `${Math.round(x)} ${Math.round(y)}`)).size;
  const r = Math.max(1.1, Math.min(4, 66 / Math.sqrt(places))) * Math.max(0.85, Math.min(1, space.width / 440));
  context.scale(canvas.width / space.width, canvas.height / space.height);
  context.globalAlpha = 0.8;
  spots.forEach(([x, y], i) => {
    context.fillStyle = colours[i];
    context.beginPath(); context.arc(x, y, r, 0, 2 * Math.PI); context.fill();
  });
}
function cloudFront(plot, spots, colours, space, names) { // shows one point with a ring and, in the panel asked, its text
  const svg = node("svg", { viewBox: `0 0 ${space.width} ${space.height}`, "aria-hidden": "true" }, plot);
  const around = node("circle", { r: 5, class: "around" }, svg), ring = node("circle", { r: 5, class: "ring" }, svg);
  const text = node("text", { class: "found" }, svg);
  return (i, asked) => {
    svg.style.display = i === null ? "none" : "";
    if (i === null) return;
    const [x, y] = spots[i], right = x < space.width / 2;
    for (const circle of [around, ring]) { circle.setAttribute("cx", x); circle.setAttribute("cy", y); }
    ring.setAttribute("fill", colours[i]);
    text.textContent = asked ? fit(names[i], right ? space.width - x - 13 : x - 13) : "";
    text.setAttribute("x", right ? x + 13 : x - 13); text.setAttribute("y", y + 4);
    text.setAttribute("text-anchor", right ? "start" : "end");
  };
}
function nearest(spots, x, y, reach) {
  let best = null, least = reach ** 2;
  spots.forEach((p, i) => { const d = (p[0] - x) ** 2 + (p[1] - y) ** 2; if (d < least) { best = i; least = d; } });
  return best;
}
function neighbour(spots, from, [ux, uy]) { // the next point in a direction, or the same if there is none
  let best = from, least = Infinity;
  spots.forEach((p, i) => {
    const dx = p[0] - spots[from][0], dy = p[1] - spots[from][1], along = dx * ux + dy * uy, aside = Math.abs(dx * uy - dy * ux);
    if (along > 1 && aside <= along && along + 2 * aside < least) { best = i; least = along + 2 * aside; }
  });
  return best;
}
function drawClouds(host, figure, width) {
  const n = figure.colors.length, count = figure.panels.length, gap = 29;
  const columns = width < 560 ? 1 : count === 3 && width > 860 ? 3 : Math.min(count, 2);
  const views = figure.close ? { "the whole picture": figure.view, "the points, closer": figure.close } : { all: figure.view };
  if (figure.close) chooser(node("div", { class: "controls" }, host), figure, "Show", views, () => { host.replaceChildren(); drawClouds(host, figure, width); });
  const space = cloudSpace(figure, chosen(figure, "Show", views), Math.min((width - gap * (columns - 1)) / columns, 600));
  const mix = pigments(figure), colours = figure.colors.map(mix);
  const names = figure.point_labels || figure.colors.map((_, i) => `point ${i + 1}`);
  const grid = node("div", { class: "clouds" }, host), foot = node("div", { class: "cloud-foot" }, host);
  grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  node("span", {}, foot, `${n.toLocaleString("en")} points` + (count > 1 ? " in every panel" : ""));
  const hint = "Point at one, or use the arrow keys, to " + (count > 1 ? "find it in the other panels." : "see which it is.");
  const said = node("output", { "aria-live": "polite" }, foot, hint), shows = [];
  let chosenPoint = null;
  const show = (i, asked) => {
    chosenPoint = i;
    shows.forEach((draw, k) => draw(i, k === asked));
    const panel = figure.panels[asked];
    said.textContent = i === null ? hint : `${names[i]} · ${panel.label}` + (panel.note ? `: ${panel.note}` : "");
  };
  figure.panels.forEach((panel, k) => {
    const spots = panel.points.map((p) => space.place(...p)), box = node("div", {}, grid);
    node("div", { class: "cloud-name" }, box, panel.label);
    if (figure.panels.some((p) => p.note)) node("div", { class: "cloud-note" }, box, panel.note);
    const about = [panel.label, panel.note, figure.caption].filter(Boolean).join(". ");
    const plot = node("div", { class: "cloud-plot", tabindex: 0, role: "img", "aria-label": about }, box);
    plot.style.width = `${space.width}px`; plot.style.aspectRatio = `${space.width} / ${space.height}`;
    cloudBack(plot, figure, space, mix);
    cloudPoints(plot, spots, colours, space);
    shows.push(cloudFront(plot, spots, colours, space, names));
    const find = (event) => {
      const rect = plot.getBoundingClientRect(), zoom = space.width / rect.width, reach = event.pointerType === "touch" ? 24 : 14;
      show(nearest(spots, (event.clientX - rect.left) * zoom, (event.clientY - rect.top) * zoom, reach), k);
    };
    plot.addEventListener("pointermove", find);
    plot.addEventListener("pointerdown", find);
    plot.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") show(null); });
    plot.addEventListener("focus", () => show(chosenPoint ?? nearest(spots, space.width / 2, space.height / 2, Infinity), k));
    plot.addEventListener("blur", () => show(null));
    plot.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Escape") show(null);
      if (!way) return;
      event.preventDefault();
      show(neighbour(spots, chosenPoint ?? nearest(spots, space.width / 2, space.height / 2, Infinity), way), k);
    });
  });
  show(null);
}
draws.clouds = drawClouds;
