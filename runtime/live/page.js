// Asks the server for what is newer than what is shown, shows it, and asks again. A window that
// nobody sees asks for nothing, since frames of an animation are not drawn in it. Whatever comes
// from outside, captions above all, goes into the page as text.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const FIRST_RETRY_MS = 500, LONGEST_RETRY_MS = 10000, STALLED_S = 3, ANNOUNCE_EVERY_MS = 10000;
const byId = (id) => document.getElementById(id);
const say = (id, text) => { const node = byId(id); if (node.textContent !== text) node.textContent = text; };
const number = (value, digits = 1) => value === null || value === undefined ? "–" : value.toFixed(digits);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

let about = null, run = "", seen = -1, points = [], several = false, paused = false, announced = -Infinity;
let resume = () => {};

async function follow() {
  let retry = FIRST_RETRY_MS;
  for (;;) {
    if (paused) await new Promise((done) => { resume = done; });
    await new Promise(requestAnimationFrame);
    try {
      const reply = await fetch(`live?run=${run}&seen=${seen}`);
      if (!reply.ok) throw new Error(await reply.text());
      const news = await reply.json();
      if (!paused) await show(news);
      retry = FIRST_RETRY_MS;
    } catch (error) {
      state("lost", error instanceof TypeError ? "connection lost, the run may have been stopped" : error.message.trim());
      await sleep(retry);
      retry = Math.min(retry * 2, LONGEST_RETRY_MS);
    }
  }
}

async function show(news) {
  if (news.about) begin(news);
  seen = news.changed;
  points.push(...news.points);
  points = points.slice(-about.window);
  if (news.picture) await showPicture(news.picture);
  if (news.result) showResult(news.result);
  showState(news);
  showFaring(news.faring, news.state);
  const counts = news.counts;
  for (const name of ["frames", "clean", "suspicious", "undefended", "held", "late", "changed"]) say(name, String(counts[name] ?? 0));
  for (const name of ["p50", "p95", "p99"]) say(name, number(news.times_ms[name]));
  say("window", String(points.length));
  news.events.forEach(showEvent);
  showStages(news.stages_ms);
  drawPlots();
}

function begin(news) {
  about = news.about;
  run = news.run;
  points = [];
  byId("events").replaceChildren();
  document.title = `${about.source} – srd-edge live`;
  const facts = [about.provider];
  if (about.budget_ms !== null) facts.push(`budget ${about.budget_ms} ms`);
  if (!about.defended) facts.push("no defence");
  say("facts", facts.filter(Boolean).join(" · "));
  for (const node of document.querySelectorAll(".looked")) node.hidden = !about.defended;
  byId("undefended-box").hidden = byId("undefended-key").hidden = about.defended;
  say("caption-label", about.defended ? "Defended caption" : "Caption");
  say("no-events", about.defended ? "None so far." : "None so far; without a defence nobody looks for suspicious ones.");
  byId("raw-row").hidden = byId("changed-box").hidden = !about.compared;
  byId("budget-key").hidden = byId("late-box").hidden = about.budget_ms === null;
  say("events-note", `The last ${about.events} stretches of neighbouring frames, newest first.`);
  byId("no-events").hidden = false;
  byId("events-note").hidden = true;
}

async function showPicture(address) {
  const picture = byId("picture");
  const next = new Image();
  next.src = address;
  try { await next.decode(); } catch { return; }
  picture.src = address;
  picture.hidden = false;
  byId("nothing").hidden = true;
  picture.parentElement.style.aspectRatio = `${next.naturalWidth} / ${next.naturalHeight}`;
}

function showResult(result) {
  say("verdict", result.verdict);
  byId("verdict").dataset.verdict = result.verdict;
  say("suspicion", number(result.suspicion, 2));
  byId("meter-full").dataset.verdict = result.verdict;
  byId("meter-full").style.width = `${100 * (result.suspicion ?? 0)}%`;
  const late = result.within_budget === false ? ", over budget" : "";
  say("when", `frame ${result.frame} · ${result.time_s.toFixed(2)} s · ${number(result.total_ms)} ms${late}`);
  say("caption", result.caption ?? "none yet that can be trusted");
  say("raw", result.raw_caption ?? "nothing");
  byId("raw").classList.toggle("differs", (result.raw_caption ?? null) !== result.caption);
  say("done", result.done);
  say("standing", result.standing);
  byId("picture").alt = `Frame ${result.frame}, ${result.verdict}: ${result.caption ?? "no caption"}`;
}

// What is said of a source beside its name.
function word(source) {
  if (source.condition === "lost") return "lost, trying again";
  if (source.condition === "failed") return source.live ? "given up" : "failed";
  if (source.condition === "ended") return "ended";
  return source.live ? "live" : "reading";
}

function showFaring(faring, state) {
  several = faring.sources.length > 1;
  const sources = faring.sources.length ? faring.sources : [{ name: about.source }];
  byId("sources").replaceChildren(...sources.map((source) => {
    const item = make("li", {}, make("span", { class: "source-name" }, source.name));
    const isSaid = !several && state === "ended" && source.condition === "ended";
    if (!source.condition || isSaid) return item;
    item.dataset.condition = source.condition;
    item.append(" ", make("span", { class: "condition" }, make("span", { class: "lamp", "aria-hidden": "true" }), word(source)));
    return item;
  }));
  const sum = (name) => faring.sources.reduce((total, source) => total + source[name], 0);
  const live = faring.sources.some((source) => source.live);
  byId("passed-box").hidden = byId("reconnections-box").hidden = !live;
  say("passed", String(sum("passed_over")));
  say("reconnections", String(sum("reconnections")));
  const sinks = Object.entries(faring.lost), missing = sinks.filter(([, count]) => count);
  byId("lost-box").hidden = !sinks.length;
  byId("lost-box").classList.toggle("some", missing.length > 0);
  byId("lost-words").hidden = !missing.length;
  say("lost", String(sinks.reduce((total, [, count]) => total + count, 0)));
  say("lost-words", missing.map(([name, count]) => `${count} ${count === 1 ? "result was" : "results were"} not delivered to ${name}`).join("; "));
}

function showState(news) {
  const going = news.faring.sources.filter((source) => source.condition === "reading" || source.condition === "lost");
  const away = going.length > 0 && going.every((source) => source.condition === "lost");
  const rate = news.rate === null ? "" : `, ${number(news.rate)} frames a second`;
  if (news.state === "waiting") state("waiting", "waiting for the first frame");
  else if (news.state === "ended") state("ended", "the run has ended");
  else if (away) state("away", "no source, trying again");
  else if (news.age_s > STALLED_S) state("stalled", `no frame for ${Math.round(news.age_s)} s`);
  else state("running", "running" + rate);
}

function state(name, words) {
  byId("pause").hidden = name === "ended";
  byId("state").dataset.state = name;
  say("state-words", words);
}

function showStages(stages) {
  const all = byId("stages");
  const names = Object.keys(stages);
  const largest = Math.max(...Object.values(stages), 1e-9);
  if ([...all.children].map((row) => row.dataset.stage).join() !== names.join()) {
    all.replaceChildren(...names.map((name) => {
      const row = make("div", {}, make("dt", {}, name), make("dd", { class: "bar", "aria-hidden": "true" }, make("span")), make("dd", { class: "ms" }));
      row.dataset.stage = name;
      return row;
    }));
  }
  [...all.children].forEach((row, index) => {
    const ms = stages[names[index]];
    row.children[1].firstChild.style.width = `${100 * ms / largest}%`;
    row.children[2].textContent = number(ms, 2);
  });
}

function showEvent(event) {
  const list = byId("events");
  let item = [...list.children].find((other) => other.dataset.number === String(event.number));
  if (!item) {
    item = byId("event").content.firstElementChild.cloneNode(true);
    item.dataset.number = event.number;
    list.prepend(item);
    while (list.children.length > about.events) list.lastElementChild.remove();
    byId("no-events").hidden = true;
    byId("events-note").hidden = false;
    announce(event);
  }
  const part = (name) => item.querySelector(name);
  if (item.dataset.frame !== String(event.frame)) {
    item.dataset.frame = event.frame;
    part("img").src = `events/${event.number}?frame=${event.frame}`;
    part("img").alt = `Frame ${event.frame}`;
  }
  part(".badge").textContent = event.verdict;
  part(".badge").dataset.verdict = event.verdict;
  const span = event.first === event.last ? `frame ${event.first}` : `frames ${event.first} to ${event.last}`;
  part(".which").textContent = span + (event.source ? ` of ${event.source}` : "");
  const level = event.suspicion === null ? "" : `, suspicion ${number(event.suspicion, 2)}`;
  part(".level").textContent = `${number(event.time_s, 2)} s${level}`;
  part(".caption").textContent = event.caption ?? "no caption yet that can be trusted";
  part(".raw").textContent = event.raw_caption === undefined ? "" : `undefended: ${event.raw_caption}`;
  part(".raw").hidden = event.raw_caption === undefined;
  part(".reason").textContent = `${event.done}; ${event.standing}`;
}

// Now and then, so that a screen reader has time for something else.
function announce(event) {
  if (performance.now() - announced < ANNOUNCE_EVERY_MS) return;
  announced = performance.now();
  say("alert", `Frame ${event.first} is ${event.verdict}: ${event.caption ?? "no caption"}`);
}

function drawPlots() {
  const times = points.map((point) => point[1]);
  const budget = about.budget_ms;
  const worst = times.length ? Math.max(...times) : 0;
  const top = Math.max(worst, (budget ?? 0) * 1.15, 1);
  plot(byId("latency"), top, " ms", (point) => point[1], budget);
  plot(byId("history"), 1, "", (point) => point[2] === "held" && point[3] === null ? null : point[3], null);
  if (!points.length) return;
  const [first, last] = [points[0][0], points[points.length - 1][0]];
  const limit = budget === null ? "no budget" : `the budget is ${budget} ms`;
  const which = several ? `the last ${points.length} frames` : `frames ${first} to ${last}`;
  byId("latency").setAttribute("aria-label", `Time of ${which}: at most ${number(worst)} ms; ${limit}`);
  byId("history").setAttribute("aria-label", `Suspicion of ${which}; ${points.filter((point) => point[2] === "suspicious").length} are suspicious`);
}

// Across goes the frame's number; where several sources count for themselves, the order of arrival.
function plot(svg, top, unit, value, budget) {
  const width = svg.clientWidth || 400, height = svg.clientHeight || 100, left = 58, right = 2, above = 10, below = 20;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const places = several ? points.map((_, index) => index) : points.map((point) => point[0]);
  const [first, last] = places.length ? [places[0], places[places.length - 1]] : [0, 1];
  const step = ticks(top, height > 100 ? 4 : 2);
  const high = Math.ceil(top / step - 1e-9) * step;
  const x = (place) => left + (width - left - right) * (place - first) / Math.max(last - first, 1);
  const y = (amount) => above + (height - above - below) * (1 - amount / high);
  const parts = [];
  for (let amount = 0; amount < high + step / 2; amount += step) {
    parts.push(draw("line", { class: amount ? "grid" : "axis", x1: left, x2: width - right, y1: y(amount), y2: y(amount) }));
    if (budget === null || Math.abs(y(amount) - y(budget)) > 13) {
      parts.push(draw("text", { x: left - 7, y: y(amount) + 4, "text-anchor": "end" }, Number(amount.toPrecision(3)) + unit));
    }
  }
  const across = Math.max(ticks(last - first, Math.floor(width / 110)), 1);
  for (let frame = Math.ceil(first / across) * across; frame <= last && !several; frame += across) {
    if (x(frame) > width - right - 52) break;
    parts.push(draw("line", { class: "axis", x1: x(frame), x2: x(frame), y1: y(0), y2: y(0) + 4 }));
    parts.push(draw("text", { x: x(frame), y: y(0) + 16, "text-anchor": "middle" }, String(frame)));
  }
  parts.push(draw("text", { x: width - right, y: y(0) + 16, "text-anchor": "end" }, several ? "frames as they came" : "frame"));
  for (const verdict of ["clean", "undefended", "held", "suspicious"]) {
    const isShown = (point) => point[2] === verdict && value(point) !== null;
    const shape = points.map((point, index) => isShown(point) ? mark(verdict, x(places[index]), y(value(point))) : "").join("");
    if (shape) parts.push(draw("path", { class: verdict, d: shape }));
  }
  if (budget !== null) {
    parts.push(draw("line", { class: "budget", x1: left, x2: width - right, y1: y(budget), y2: y(budget) }));
    parts.push(draw("text", { class: "budget-words", x: left - 7, y: y(budget) + 4, "text-anchor": "end" }, budget + unit));
  }
  svg.replaceChildren(...parts);
}

// A step of 1, 2 or 5 times a power of ten, so that about `count` of them make `range`.
function ticks(range, count) {
  const rough = Math.max(range, 1e-9) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].find((step) => step * power >= rough * 0.999) * power;
}

function mark(verdict, x, y) {
  const at = `M${x.toFixed(1)} ${y.toFixed(1)}`;
  if (verdict === "suspicious") return `${at}m0-4.2l4 7h-8z`;
  if (verdict === "held") return `${at}m-2.5-2.5h5v5h-5z`;
  return `${at}m-2.2 0a2.2 2.2 0 1 0 4.4 0a2.2 2.2 0 1 0-4.4 0`;
}

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function draw(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  say("pause", paused ? "Resume" : "Pause");
  if (paused) state("waiting", "paused");
  else resume();
});
addEventListener("resize", () => { if (about) drawPlots(); });
follow();
