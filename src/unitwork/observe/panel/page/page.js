// The page: what it knows, how it hears of news, and which view it shows.

import { CHIPS as LIVE_CHIPS, Live } from "./live.js";
import { Now } from "./now.js";
import { OUTCOMES, ask, h, number, sign } from "./parts.js";
import { CHIPS as QUERY_CHIPS, QueriesView } from "./queries.js";

const KEPT = 500;
const TEXTS = 5000;
const SLOW_S = 0.1;
const AGAIN_MS = 3000;

const $ = (id) => document.getElementById(id);

/** What the program has told, and what a person has chosen. */
const model = {
  panel: null,
  traces: new Map(),
  texts: new Map(),
  kinds: new Map(),
  seconds: new Map(),
  present: null,
  passedOver: 0,
  longest: 0.001,
  slow: SLOW_S,
  several: false,
  paused: false,
  filter: "",
  chip: "all",
  ahead: 0,

  now: () => Date.now() / 1000 + model.ahead,

  matches(words) {
    if (!model.filter) return true;
    const wanted = model.filter.toLowerCase();
    for (const each of words()) if (each && String(each).toLowerCase().includes(wanted)) return true;
    return false;
  },

  take({ traces, texts, passed_over: passedOver = 0 }) {
    for (const [id, text] of Object.entries(texts)) model.texts.set(Number(id), text);
    for (const trace of traces) {
      const before = model.traces.get(trace.trace);
      if (!before || (before.duration_s === null && trace.duration_s !== null)) model.count(trace);
      model.traces.set(trace.trace, trace);
    }
    model.passedOver += passedOver;
    for (const id of [...model.traces.keys()]) {
      if (model.traces.size <= KEPT) break;
      if (id !== views.live.open) model.traces.delete(id);
    }
    while (model.texts.size > TEXTS) model.texts.delete(model.texts.keys().next().value);
    model.longest = Math.max(0.001, ...[...model.traces.values()].map((each) => each.duration_s ?? 0));
    return traces;
  },

  count(trace) {
    if (trace.duration_s === null) return;
    const second = Math.floor(trace.started + trace.duration_s);
    const column = model.seconds.get(second) ?? { well: 0, failed: 0 };
    column[trace.state === "failed" ? "failed" : "well"] += 1;
    model.seconds.set(second, column);
    for (const each of model.seconds.keys()) if (each < second - 300) model.seconds.delete(each);
  },

  async fetch(id) {
    const answer = await fetch(`trace?number=${id}`, { cache: "no-store" }).catch(() => null);
    if (answer?.ok) model.take(await answer.json());
  },

  alarm(words) {
    $("alarm").textContent = words ?? "";
    $("alarm").hidden = !words;
  },
};

const views = { live: new Live(model), now: new Now(model), queries: new QueriesView(model) };
let view = null;

function route() {
  const [, name, id] = /^#\/(live|now|queries)(?:\/(\d+))?$/.exec(location.hash) ?? [null, "live", null];
  const changed = view !== views[name];
  view = views[name];
  if (changed) {
    model.chip = "all";
    $("view").replaceChildren(view.element);
    for (const tab of document.querySelectorAll(".tabs a")) {
      if (tab.dataset.view === name) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    document.title = `${view.title} – unitwork`;
    document.body.dataset.view = name;
    chips();
    view.refresh();
  }
  model.alarm(null);
  if (name === "live") views.live.show(id ? Number(id) : null);
}

function chips() {
  const known = { live: LIVE_CHIPS, queries: QUERY_CHIPS }[document.body.dataset.view] ?? [];
  $("chips").replaceChildren(...known.map(([key, words]) => h("button", {
    type: "button", class: "chip", "aria-pressed": String(model.chip === key),
    onclick: () => { model.chip = key; chips(); view.refresh(); },
  }, words)));
}

// -- news ---------------------------------------------------------------------------------------

let source = null;
const waiting = [];
let drawing = false;

function status(state, words) {
  $("status").dataset.state = state;
  $("status").textContent = words;
}

let seen = "";

function listen() {
  source?.close();
  source = new EventSource(seen ? `stream?since=${encodeURIComponent(seen)}` : "stream");
  // A stream ends after a while, so that no server waits long for it.
  source.addEventListener("again", listen);
  source.addEventListener("hello", (event) => hello(JSON.parse(event.data)));
  source.addEventListener("traces", (event) => later(() => {
    seen = event.lastEventId;
    const changed = model.take(JSON.parse(event.data));
    views.live.update(changed);
  }));
  source.addEventListener("now", (event) => later(() => {
    model.present = JSON.parse(event.data);
    totals();
    if (view !== views.live) view.update([]);
    else views.live.draw();
  }));
  source.onerror = () => {
    status("away", "not connected");
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS);
  };
}

/** Take news when the browser is about to draw, or at once where nobody sees it. */
function later(work) {
  waiting.push(work);
  if (drawing) return;
  drawing = true;
  const all = () => {
    drawing = false;
    for (const each of waiting.splice(0)) each();
  };
  if (document.hidden) setTimeout(all, 0);
  else requestAnimationFrame(all);
}

function hello(told) {
  if (model.panel !== null && model.panel !== told.panel) forget();
  model.panel = told.panel;
  model.ahead = told.now - Date.now() / 1000;
  model.several = told.databases.length > 1;
  model.kinds = new Map(told.databases.map((each) => [each.name, each.kind]));
  status(model.paused ? "held" : "live", model.paused ? "held" : "live");
}

function forget() {
  for (const each of [model.traces, model.texts, model.seconds]) each.clear();
  model.passedOver = 0;
  model.present = null;
  views.live.open = null;
  for (const each of Object.values(views)) each.refresh();
}

function totals() {
  const used = model.present.databases.flatMap((each) => each.servers).flatMap((each) => each.pools).reduce((sum, each) => sum + each.in_use, 0);
  $("count-now").textContent = used ? number(used) : "";
  $("count-queries").textContent = model.present.queries.length ? number(model.present.queries.length) : "";
}

// -- what a person does ---------------------------------------------------------------------------

function pause() {
  model.paused = !model.paused;
  $("pause").setAttribute("aria-pressed", String(model.paused));
  $("pause").textContent = model.paused ? "Go on" : "Pause";
  status(model.paused ? "held" : "live", model.paused ? "held" : "live");
  if (!model.paused) view.refresh();
}

async function clear() {
  const told = await ask("clear", {}).catch((error) => ({ error: String(error) }));
  if (told.error) model.alarm(told.error);
  else {
    forget();
    if (location.hash.startsWith("#/live/")) location.hash = "#/live";
  }
}

function stored(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(name, value);
    return localStorage.getItem(name);
  } catch {
    return value ?? null; // a browser that keeps nothing
  }
}

function theme(next) {
  const known = ["system", "light", "dark"];
  let chosen = stored("unitwork-theme");
  if (!known.includes(chosen)) chosen = "system";
  if (next) chosen = stored("unitwork-theme", known[(known.indexOf(chosen) + 1) % known.length]);
  document.documentElement.dataset.theme = chosen;
  $("theme").textContent = { system: "Theme", light: "Light", dark: "Dark" }[chosen];
}

function legend() {
  const row = (mark, words) => h("li", {}, mark, h("span", {}, words));
  const bar = (kind, outcome = "") => h("span", { class: "bar sample" }, h("span", { class: "mark", data: { kind, outcome }, style: { left: "0", width: "100%" } }));
  const keys = [["1 2 3", "Live, Now, Queries"], ["/", "filter"], ["p", "pause, or go on"], ["j k", "next, previous"], ["Enter", "open, or close"], ["Esc", "close, or clear the filter"], ["?", "this"]];
  const close = h("button", { type: "button", onclick: () => $("legend").close() }, "Close");
  $("legend").replaceChildren(
    h("h2", { id: "legend-title" }, "What the signs mean"),
    h("div", { class: "columns" },
      h("ul", {}, OUTCOMES.map(([name, words]) => row(sign(name), words))),
      h("ul", {},
        row(bar("block", "COMMITTED"), "a block that was kept"),
        row(bar("block", "ROLLED_BACK"), "a block that was undone"),
        row(bar("block", "JOINED"), "a block that took part in one around it"),
        row(bar("read"), "a statement that reads"),
        row(bar("write"), "a statement that writes"),
        row(bar("control"), "BEGIN, COMMIT, SAVEPOINT"),
        row(bar("connection"), "a wait for a connection, or for a turn"),
        row(h("span", { class: "flag" }, "×5"), "one line has sent one text so often"))),
    h("h2", {}, "Keys"),
    h("dl", { class: "keys" }, keys.map(([key, words]) => [h("dt", {}, key.split(" ").map((each) => h("kbd", {}, each))), h("dd", {}, words)])),
    h("p", { class: "dim" }, "Values of parameters are never kept. While no page is open, nothing is observed."), close);
  $("legend").showModal();
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, textarea");
  if (event.key === "Escape") {
    if ($("legend").open) return;
    if (typing) { $("filter").value = ""; filter(); $("filter").blur(); }
    else if (location.hash.startsWith("#/live/")) location.hash = "#/live";
    return;
  }
  if (typing) {
    if (event.key === "Enter") view.move(1);
    return;
  }
  const acts = {
    1: () => { location.hash = "#/live"; },
    2: () => { location.hash = "#/now"; },
    3: () => { location.hash = "#/queries"; },
    "/": () => $("filter").focus(),
    p: pause,
    j: () => view.move(1),
    k: () => view.move(-1),
    "?": legend,
  };
  if (acts[event.key]) {
    event.preventDefault();
    acts[event.key]();
  }
}

let typed = 0;
function filter() {
  clearTimeout(typed);
  typed = setTimeout(() => { model.filter = $("filter").value.trim(); view.refresh(); }, 80);
}

$("pause").addEventListener("click", pause);
$("clear").addEventListener("click", clear);
$("theme").addEventListener("click", () => theme(true));
$("help").addEventListener("click", legend);
$("filter").addEventListener("input", filter);
document.addEventListener("keydown", key);
window.addEventListener("hashchange", route);
theme(false);
route();
listen();
