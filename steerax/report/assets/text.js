
// ---- text: observations drawn with their weights --------------------------------------------------------------
const said = (v) => (v > 0 ? "+" : v < 0 ? "−" : "") + short(Math.abs(v));
function drawText(host, figure, width) {
  const redraw = () => { host.replaceChildren(); drawText(host, figure, width); };
  const link = links[figure.link], last = figure.query_notes.length - 1, controls = node("div", { class: "controls" }, host);
  if (last > 0) {
    const label = node("label", { for: "slider-" + figure.link }, controls, figure.query_label + " "), at = node("output", {}, label);
    const slider = node("input", { type: "range", min: 0, max: last, step: 1, id: "slider-" + figure.link }, controls);
    slider.addEventListener("input", () => choose(figure.link, +slider.value));
    figure.slide = () => { slider.value = link.row; at.textContent = `${link.row + 1} of ${last + 1}`; };
  }
  chooser(controls, figure, figure.choice_label, figure.choices, redraw);
  const note = node("span", { class: "note" }, controls);
  key(host, figure);
  const text = node("div", { class: "weighed", role: "group", "aria-label": figure.title }, host);
  const foot = node("div", { class: "weighed-foot" }, host), output = node("output", { "aria-live": "polite" }, foot);
  const pieces = figure.tokens.map((token, s) => {
    const piece = node("span", { class: "piece", tabindex: s ? -1 : 0, "data-step": s }, text, token.replace(/\n/g, "↵\n"));
    if (!figure.close && s + 1 < figure.tokens.length) text.append(" ");
    return piece;
  });
  const hint = "Point at a piece, or press Tab and the arrow keys, to read its weight.";
  const choice = () => chosen(figure, figure.choice_label, figure.choices);
  const show = (s) => {
    if (s === null) { output.textContent = hint; return; }
    const { weights, errors } = choice(), row = weights[link.row], v = row[s], e = errors && errors[link.row][s];
    const where = figure.places[s], token = JSON.stringify(figure.tokens[s]);
    output.textContent = v === null || s >= figure.reach[link.row] ? `${where}, ${token}: after the query, no part of it`
      : `${where}, ${token}: ${said(v)}${e ? ` ± ${short(e)}` : ""} ${figure.unit}`;
  };
  const draw = () => {
    const colour = mixer(true), limit = choice().limit, row = choice().weights[link.row], reach = figure.reach[link.row];
    if (figure.slide) figure.slide();
    note.textContent = [figure.query_notes[link.row], choice().notes[link.row]].filter((t) => t).join(" ");
    pieces.forEach((piece, s) => {
      const v = row[s] || 0, f = limit ? v / limit : 0;
      piece.style.backgroundColor = s < reach && v ? `rgb(${colour(tint(f)).join()})` : "transparent";
      piece.classList.toggle("more", s < reach && f > 0.02);
      piece.classList.toggle("less", s < reach && f < -0.02);
      piece.classList.toggle("later", s >= reach);
      piece.setAttribute("aria-label", `${figure.tokens[s]} ${s < reach ? said(v) : ""}`);
    });
    show(null);
  };
  const step = (event) => { const found = event.target.closest(".piece"); return found ? +found.dataset.step : null; };
  text.addEventListener("pointerover", (event) => show(step(event)));
  text.addEventListener("pointerleave", () => show(null));
  text.addEventListener("focusin", (event) => show(step(event)));
  text.addEventListener("focusout", () => show(null));
  text.addEventListener("keydown", (event) => {
    const at = step(event), to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: pieces.length - 1 }[event.key];
    if (to === undefined || !pieces[to]) return;
    event.preventDefault();
    pieces[at].tabIndex = -1; pieces[to].tabIndex = 0; pieces[to].focus();
  });
  draw(); figure.follow = draw;
}
const tint = (f) => Math.sign(f) * 0.62 * Math.sqrt(Math.min(1, Math.abs(f))); // small weights stay visible, text stays readable
function key(host, figure) {
  const box = node("div", { class: "weighed-key" }, host), colour = mixer(true), limit = chosen(figure, figure.choice_label, figure.choices).limit;
  node("span", {}, box, limit ? said(-limit) : "");
  const bar = node("span", { class: "bar", "aria-hidden": "true" }, box);
  for (let i = 0; i < 21; i++) node("span", {}, bar).style.backgroundColor = `rgb(${colour(tint(i / 10 - 1)).join()})`;
  node("span", {}, box, limit ? said(limit) : "all zero");
  node("span", { class: "words" }, box, figure.key);
}
draws.text = drawText;
