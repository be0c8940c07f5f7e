// The view "Live": requests, jobs, blocks and lone statements, newest first, each to be opened.

import { clock, counted, duration, explainer, h, nameInSentence, number, s, shortName, sign, site, sort, sql } from "./parts.js";

const SHOWN = 200;
const SECONDS = 60;

export const CHIPS = [
  ["all", "All"],
  ["failed", "Failed"],
  ["slow", "Slow"],
  ["repeats", "Repeated"],
  ["waits", "Waited"],
  ["open", "Open"],
];

/** What became of a trace: that of its outermost block, or of its only statement. */
export function outcomeOf(trace) {
  const own = trace.entries.filter((each) => each.kind === "block");
  const known = new Set(own.map((each) => each.block));
  const outermost = own.filter((each) => !known.has(each.parent));
  const worst = ["UNKNOWN", "ROLLED_BACK", "REFUSED", "CONDEMNED", "COMMITTED"];
  for (const name of worst) if (outermost.some((each) => each.outcome === name)) return name;
  if (trace.duration_s === null) return null;
  if (trace.error) return "ROLLED_BACK";
  return outermost.length ? outermost[0].outcome : "NO_TRANSACTION";
}

const isWait = (entry) => (entry.kind === "connection" || entry.kind === "turn") && entry.duration_s > 0.0005;
const extent = (trace) => trace.duration_s ?? Math.max(0.001, ...trace.entries.map((each) => each.at_s + (each.duration_s ?? 0)));

export class Live {
  constructor(model) {
    this.model = model;
    this.rows = new Map();
    this.open = null;
    this.held = new Set();
    this.list = h("ol", { class: "traces", "aria-label": "Requests and jobs, newest first" });
    this.more = h("button", { type: "button", class: "more", hidden: true, onclick: () => this.release() });
    this.empty = h("div", { class: "empty" });
    this.activity = h("div", { class: "activity" });
    this.lost = h("p", { class: "dim lost", hidden: true });
    this.element = h("section", { class: "live" }, this.activity, this.more, this.lost, this.list, this.empty);
  }

  title = "Live";

  /** Show what is new. While one is open, or the page is held, others wait above. */
  update(changed) {
    const holds = this.model.paused || (this.open !== null && this.rows.has(this.open));
    for (const trace of changed) {
      if (this.rows.has(trace.trace)) this.place(trace);
      else if (holds && trace.trace !== this.open) this.held.add(trace.trace);
      else this.place(trace);
    }
    this.more.hidden = !this.held.size;
    this.more.textContent = `${counted(this.held.size, "newer one", "newer ones")}: show ${this.held.size === 1 ? "it" : "them"}`;
    this.trim();
    this.draw();
  }

  /** Show all anew, such as after a change of the filter. */
  refresh() {
    this.rows.clear();
    this.held.clear();
    this.list.replaceChildren();
    const traces = [...this.model.traces.values()].sort((a, b) => a.trace - b.trace);
    for (const trace of traces.filter((each) => this.fits(each)).slice(-SHOWN)) this.place(trace);
    this.more.hidden = true;
    this.draw();
  }

  release() {
    for (const each of this.held) if (this.model.traces.has(each)) this.place(this.model.traces.get(each));
    this.held.clear();
    this.more.hidden = true;
    this.trim();
    this.draw();
    window.scrollTo({ top: 0 });
  }

  fits(trace) {
    if (trace.trace === this.open) return true;
    const chip = this.model.chip;
    if (chip === "failed" && trace.state !== "failed" && !trace.entries.some((each) => each.error)) return false;
    if (chip === "slow" && !(extent(trace) >= this.model.slow)) return false;
    if (chip === "repeats" && !trace.repeats.length) return false;
    if (chip === "waits" && !trace.entries.some(isWait)) return false;
    if (chip === "open" && trace.duration_s !== null) return false;
    return this.model.matches(() => this.words(trace));
  }

  *words(trace) {
    yield trace.name;
    yield trace.error;
    yield* trace.databases;
    for (const each of trace.entries) {
      yield each.kind === "statement" ? this.text(each) : (each.name ?? each.text);
      yield each.error;
      yield each.site ?? each.opener;
    }
  }

  text(entry) {
    return this.model.texts.get(entry.query)?.sql ?? "…";
  }

  place(trace) {
    const before = this.rows.get(trace.trace);
    if (!this.fits(trace)) {
      before?.remove();
      this.rows.delete(trace.trace);
      return;
    }
    const row = this.row(trace);
    if (before) {
      const focused = before.contains(document.activeElement);
      before.replaceWith(row);
      if (focused) row.querySelector(".head").focus({ preventScroll: true });
    } else {
      let after = this.list.firstElementChild;
      while (after && Number(after.dataset.trace) > trace.trace) after = after.nextElementSibling;
      this.list.insertBefore(row, after);
    }
    this.rows.set(trace.trace, row);
  }

  trim() {
    while (this.list.children.length > SHOWN) {
      let last = this.list.lastElementChild;
      if (Number(last.dataset.trace) === this.open) last = last.previousElementSibling;
      this.rows.delete(Number(last.dataset.trace));
      last.remove();
    }
  }

  draw() {
    const { passedOver, paused } = this.model;
    this.lost.hidden = !passedOver;
    this.lost.textContent = `${counted(passedOver, "request or block", "requests or blocks")} more happened too fast to be shown here; Queries counts all of them.`;
    const nothing = !this.list.children.length;
    this.empty.hidden = !nothing;
    if (nothing) {
      const filtered = this.model.traces.size > 0;
      this.empty.replaceChildren(
        h("p", { class: "big" }, filtered ? "Nothing fits the filter" : paused ? "Held" : "Nothing has happened yet"),
        h("p", {}, filtered ? "Choose All, or change the words." : "Use your program: what its transactions do appears here at once."),
      );
    }
    this.activity.replaceChildren(...this.drawn());
  }

  /** The last minute: a column for each second, those that failed hatched on top. */
  drawn() {
    const now = Math.floor(this.model.now());
    const columns = Array.from({ length: SECONDS }, (_, place) => this.model.seconds.get(now - SECONDS + 1 + place) ?? { well: 0, failed: 0 });
    const most = Math.max(4, ...columns.map((each) => each.well + each.failed));
    const well = columns.reduce((sum, each) => sum + each.well, 0);
    const failed = columns.reduce((sum, each) => sum + each.failed, 0);
    const bars = columns.flatMap((each, place) => {
      const [low, high] = [(each.well / most) * 30, (each.failed / most) * 30];
      return [
        low > 0 && s("rect", { class: "well", x: place * 10 + 1, y: 32 - low, width: 8, height: low, rx: 1 }),
        high > 0 && s("rect", { class: "failed", x: place * 10 + 1, y: 32 - low - high, width: 8, height: high, rx: 1 }),
      ];
    });
    const words = `${counted(well + failed, "request or block", "requests and blocks")} in the last minute, ${number(failed)} failed`;
    return [
      h("p", { class: "figures" },
        h("span", {}, h("b", {}, number(well + failed)), " in the last minute"),
        h("span", { class: failed ? "bad" : "dim" }, h("b", {}, number(failed)), " failed")),
      s("svg", { viewBox: "0 0 600 33", preserveAspectRatio: "none", role: "img", "aria-label": words },
        s("line", { x1: 0, x2: 600, y1: 32.5, y2: 32.5, class: "base" }), bars),
    ];
  }

  row(trace) {
    const open = trace.trace === this.open;
    const outcome = outcomeOf(trace);
    const worst = trace.repeats[0];
    const waited = trace.entries.filter(isWait).reduce((sum, each) => sum + each.duration_s, 0);
    const retried = trace.entries.filter((each) => each.kind === "retry").length;
    const facts = [
      counted(trace.statements, "statement"),
      this.model.several && trace.databases.join(", "),
      trace.error && h("span", { class: "bad" }, trace.error),
      worst && h("span", { class: "flag", title: "The same statement, sent again and again by one line" }, `×${worst.times}`),
      waited > 0 && h("span", { class: "waited" }, `waited ${duration(waited)}`),
      retried > 0 && h("span", { class: "waited" }, counted(retried, "retry", "retries")),
    ].filter(Boolean);
    const only = trace.kind === "statement" ? trace.entries.find((each) => each.kind === "statement") : null;
    const name = only ? sql(this.text(only)) : shortName(trace.name);
    const head = h(
      "button",
      { type: "button", class: "head", "aria-expanded": String(open), onclick: () => this.toggle(trace.trace) },
      sign(outcome),
      h("span", { class: "what" },
        h("span", { class: "name", title: only ? this.text(only) : trace.name }, name),
        h("span", { class: "facts" }, facts.map((fact) => h("span", {}, fact)))),
      this.strip(trace),
      h("span", { class: "took" }, duration(trace.duration_s)),
      h("time", {}, clock(trace.started)),
    );
    return h("li", { class: "trace", data: { trace: trace.trace, state: trace.state, outcome: outcome ?? "OPEN" } },
      head, open && this.detail(trace));
  }

  /** The whole trace in one line, as long as it took beside the others. */
  strip(trace) {
    const whole = extent(trace);
    const width = Math.max(3, 100 * Math.sqrt(Math.min(1, whole / this.model.longest)));
    const marks = trace.entries.slice(0, 150).map((entry) => this.mark(trace, entry, whole, true));
    return h("span", { class: "strip", "aria-hidden": "true", title: "Its length grows with the root of the time" },
      h("span", { class: "scale", style: { width: `${width}%` } }, marks));
  }

  mark(trace, entry, whole, small = false) {
    const left = Math.min(100, (entry.at_s / whole) * 100);
    const lasted = entry.duration_s ?? Math.max(0, whole - entry.at_s);
    const width = Math.max(0, Math.min(100 - left, (lasted / whole) * 100));
    const kind = entry.kind === "statement" ? sort(this.text(entry), entry.control) : entry.kind;
    if (small && entry.kind !== "block" && !["read", "write", "control", "connection", "turn"].includes(kind)) return null;
    return h("span", {
      class: "mark",
      data: { kind, outcome: entry.kind === "block" ? (entry.outcome ?? "OPEN") : entry.error ? "ERROR" : "" },
      style: { left: `${left}%`, width: `${width}%` },
    });
  }

  toggle(id) {
    location.hash = this.open === id ? "#/live" : `#/live/${id}`;
  }

  /** Open one trace, as the address says; one that is not here is asked for. */
  async show(id) {
    const before = this.open;
    this.open = id;
    for (const each of [before, id]) if (each !== null && this.model.traces.has(each)) this.place(this.model.traces.get(each));
    if (before !== null && id === null && this.held.size) this.release();
    if (id === null) return;
    if (!this.model.traces.has(id)) await this.model.fetch(id);
    if (this.model.traces.has(id)) this.place(this.model.traces.get(id));
    else this.model.alarm(`Trace ${id} is no longer kept: newer ones needed its room.`);
    this.draw();
    this.rows.get(id)?.scrollIntoView({ block: "nearest" });
  }

  move(step) {
    const heads = [...this.list.querySelectorAll(".head")];
    const here = heads.indexOf(document.activeElement?.closest(".trace")?.querySelector(".head"));
    heads[Math.max(0, Math.min(heads.length - 1, here + step))]?.focus();
  }

  detail(trace) {
    const whole = extent(trace);
    const link = h("a", { href: `#/live/${trace.trace}`, title: "A link to this one" }, `trace ${trace.trace}`);
    return h("div", { class: "detail" },
      h("p", { class: "facts" }, h("span", {}, link), h("span", { class: "long" }, trace.name),
        h("span", {}, `on ${trace.databases.join(", ") || "no database"}`),
        h("span", {}, `at ${clock(trace.started)}`)),
      this.reasons(trace),
      h("div", { class: "waterfall", role: "table", "aria-label": "What happened, in order" },
        h("div", { class: "line axis", role: "row", "aria-hidden": "true" }, h("span", {}), h("span", { class: "bar" },
          [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", { class: "tick", style: { left: `${part * 100}%` } }, part ? duration(whole * part) : "0"))), h("span", {})),
        this.lines(trace).map(([entry, depth]) => this.line(trace, entry, depth, whole))),
      trace.left_out > 0 && h("p", { class: "dim" }, `${counted(trace.left_out, "entry", "entries")} more came after these and were not kept.`));
  }

  /** Why it went wrong, in words, before the picture. */
  reasons(trace) {
    const said = [];
    for (const entry of trace.entries) {
      if (entry.kind !== "block") continue;
      const name = shortName(entry.name);
      if (entry.condemned_by) said.push([entry.outcome, `${name} could only be undone, because of ${nameInSentence(entry.condemned_by)}.`]);
      else if (entry.error && entry.outcome && entry.outcome !== "COMMITTED") said.push([entry.outcome, `${name}: ${entry.error}, ${entry.said}.`]);
    }
    for (const each of trace.entries) if (each.kind === "retry") said.push(["SAVEPOINT_UNDONE", `Tried again: ${each.text}.`]);
    const repeats = trace.repeats.map((each) => h("li", {}, h("span", { class: "flag" }, `×${each.times}`),
      h("span", {}, "the same statement, again and again", each.site && [", by ", site(each.site)], ": read all rows with one (a join, ", h("code", {}, "in_"), ", ", h("code", {}, "selectinload"), "). "),
      sql(this.model.texts.get(each.query)?.sql ?? "")));
    if (!said.length && !repeats.length) return null;
    return h("ul", { class: "reasons" }, said.slice(0, 8).map(([outcome, words]) => h("li", {}, sign(outcome), h("span", {}, words))), repeats);
  }

  /** The entries as a tree, each before what is in it. */
  lines(trace) {
    const below = new Map();
    const known = new Set(trace.entries.filter((each) => each.kind === "block").map((each) => each.block));
    for (const entry of trace.entries) {
      const parent = known.has(entry.parent) ? entry.parent : null;
      if (!below.has(parent)) below.set(parent, []);
      below.get(parent).push(entry);
    }
    const found = [];
    const walk = (parent, depth) => {
      for (const entry of (below.get(parent) ?? []).sort((a, b) => a.at_s - b.at_s)) {
        found.push([entry, depth]);
        if (entry.kind === "block") walk(entry.block, depth + 1);
      }
    };
    walk(null, 0);
    return found;
  }

  line(trace, entry, depth, whole) {
    const indent = { style: { "--depth": String(Math.min(depth, 8)) } };
    const took = entry.kind === "block" || entry.duration_s > 0 ? duration(entry.busy_s ?? entry.duration_s) : "";
    const bar = h("span", { class: "bar", role: "cell" }, this.mark(trace, entry, whole));
    const last = h("span", { class: "took", role: "cell" }, took);
    if (entry.kind === "statement") return this.statement(entry, indent, bar, last);
    const label = entry.kind === "block"
      ? [sign(entry.outcome), h("b", { title: entry.name }, shortName(entry.name)),
        h("span", { class: "rule" }, `${entry.propagation} → ${entry.step}`),
        entry.read_only && h("span", { class: "tag" }, "read-only"),
        entry.attempt > 1 && h("span", { class: "tag" }, `attempt ${entry.attempt}`),
        entry.error && h("span", { class: "bad" }, entry.error),
        !/:\d+$/.test(entry.name) && site(entry.opener)]
      : [h("span", { class: "glyph", data: { kind: entry.kind }, "aria-hidden": "true" }), h("span", { class: entry.error ? "bad" : "dim", title: entry.text }, entry.kind === "condemned" ? `can only be undone, because of ${nameInSentence(entry.text)}` : entry.text, entry.error && (entry.kind === "hook" || entry.kind === "condemned") ? ` (${entry.error})` : "")];
    return h("div", { class: "line", role: "row", data: { kind: entry.kind }, ...indent }, h("span", { class: "label", role: "cell" }, label), bar, last);
  }

  statement(entry, indent, bar, last) {
    const text = this.text(entry);
    const facts = h("div", { class: "more-facts", hidden: true });
    const fill = () => {
      const known = this.model.texts.get(entry.query);
      const kind = this.model.kinds.get(known?.database);
      facts.replaceChildren(
        sql(text, { class: "sql whole" }),
        h("dl", {},
          entry.site && [h("dt", {}, "sent by"), h("dd", {}, site(entry.site))],
          entry.lane && [h("dt", {}, "lane"), h("dd", {}, entry.lane, entry.refusal && h("span", { class: "dim" }, `: ${entry.refusal}`))],
          entry.server && [h("dt", {}, "server"), h("dd", {}, entry.server)],
          entry.error && [h("dt", {}, "failed with"), h("dd", { class: "bad" }, entry.error)]),
        ...(entry.control ? [] : explainer(entry.query, kind, text)));
    };
    const button = h("button", {
      type: "button", class: "label", role: "cell", "aria-expanded": "false",
      onclick: () => { fill(); facts.hidden = !facts.hidden; button.setAttribute("aria-expanded", String(!facts.hidden)); },
    },
    h("span", { class: "glyph", data: { kind: sort(text, entry.control) }, "aria-hidden": "true" }),
    sql(text),
    entry.times > 1 && h("span", { class: "flag" }, `×${entry.times}`),
    entry.many > 1 && h("span", { class: "tag" }, `${number(entry.many)} rows of values`),
    entry.rows !== null && !entry.control && h("span", { class: "dim rows" }, counted(entry.rows, "row")),
    entry.error && h("span", { class: "bad" }, entry.error));
    return h("div", { class: "line", role: "row", data: entry.control ? { kind: "statement", control: "" } : { kind: "statement" }, ...indent }, button, bar, last, facts);
  }
}
