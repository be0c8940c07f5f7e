// The view "Queries": each statement once, with what it costs, the way it takes, and who sends it.

import { counted, duration, explainer, h, number, shortName, site, sort, sql } from "./parts.js";

const COLUMNS = [
  ["sql", "Statement"],
  ["count", "Times"],
  ["total_s", "In all"],
  ["p95_s", "95 % below"],
  ["rows", "Rows"],
  ["lane", "Lane"],
];

export const CHIPS = [
  ["all", "All"],
  ["repeats", "Repeated"],
  ["slow", "Slow"],
  ["failed", "Failed"],
  ["lanes", "Not the fastest lane"],
];

const laneOf = (query) => Object.entries(query.lanes).sort((a, b) => b[1] - a[1])[0]?.[0] ?? null;

export class QueriesView {
  constructor(model) {
    this.model = model;
    this.order = "total_s";
    this.open = null;
    this.rows = new Map();
    this.heads = COLUMNS.map(([key, words]) => h("button", { type: "button", class: `head-${key}`, onclick: () => this.sortBy(key) }, words));
    this.list = h("ol", { class: "queries-list" });
    this.empty = h("div", { class: "empty" });
    this.note = h("p", { class: "dim" });
    this.element = h("section", { class: "queries" },
      h("div", { class: "query heads", role: "group", "aria-label": "Sort by" }, this.heads), this.list, this.empty, this.note);
  }

  title = "Queries";

  sortBy(key) {
    this.order = key;
    this.refresh();
  }

  update() {
    if (!this.model.paused) this.refresh();
  }

  refresh() {
    const queries = (this.model.present?.queries ?? []).filter((each) => this.fits(each));
    const value = (each) => (this.order === "sql" ? each.sql : this.order === "lane" ? (laneOf(each) ?? "~") : (each[this.order] ?? -1));
    queries.sort((a, b) => (typeof value(a) === "string" ? value(a).localeCompare(value(b)) : value(b) - value(a)));
    for (const [place, head] of this.heads.entries()) head.setAttribute("aria-pressed", String(COLUMNS[place][0] === this.order));
    const most = Math.max(1e-9, ...queries.map((each) => each.total_s));
    const seen = new Set();
    queries.forEach((query, place) => {
      seen.add(query.query);
      let row = this.rows.get(query.query);
      if (!row) this.rows.set(query.query, (row = this.make(query)));
      this.fill(row, query, most);
      if (this.list.children[place] !== row.element) this.list.insertBefore(row.element, this.list.children[place] ?? null);
    });
    for (const [id, row] of this.rows) {
      if (seen.has(id)) continue;
      row.element.remove();
      this.rows.delete(id);
    }
    this.empty.hidden = queries.length > 0;
    const all = this.model.present?.queries?.length ?? 0;
    this.empty.replaceChildren(h("p", { class: "big" }, all ? "Nothing fits the filter" : "No statement yet"),
      h("p", {}, all ? "Choose All, or change the words." : "Statements are counted here while somebody looks."));
    const forgotten = this.model.present?.forgotten ?? 0;
    this.note.textContent = forgotten ? `${counted(forgotten, "statement")} that were not sent for longest had to go.` : "";
  }

  fits(query) {
    const chip = this.model.chip;
    if (chip === "repeats" && !query.repeats) return false;
    if (chip === "slow" && !(query.p95_s >= this.model.slow)) return false;
    if (chip === "failed" && !query.errors) return false;
    if (chip === "lanes" && !Object.keys(query.refusals).length) return false;
    return this.model.matches(() => [query.sql, query.database, ...Object.keys(query.sites), ...Object.keys(query.refusals)]);
  }

  make(query) {
    const row = {};
    row.cells = Object.fromEntries(COLUMNS.map(([key, words]) => [key, h("span", { class: `cell-${key}`, data: { head: words } })]));
    row.flags = h("span", { class: "flags" });
    row.cells.sql.append(
      h("span", { class: "glyph", data: { kind: sort(query.sql, query.control) }, "aria-hidden": "true" }), sql(query.sql, { title: query.sql }), row.flags);
    row.body = h("div", { class: "detail", hidden: true });
    row.facts = h("div", {});
    row.head = h("button", { type: "button", class: "query head", "aria-expanded": "false", onclick: () => this.toggle(row, query) }, Object.values(row.cells));
    row.element = h("li", { class: "query-item", data: { query: query.query } }, row.head, row.body);
    return row;
  }

  toggle(row, query) {
    row.body.hidden = !row.body.hidden;
    row.head.setAttribute("aria-expanded", String(!row.body.hidden));
    if (!row.body.hidden && !row.body.childElementCount) {
      row.body.append(sql(query.sql, { class: "sql whole" }), row.facts, ...explainer(query.query, this.model.kinds.get(query.database), query.sql));
    }
  }

  fill(row, query, most) {
    row.cells.count.textContent = number(query.count);
    row.cells.total_s.replaceChildren(h("span", {}, duration(query.total_s)), h("i", { class: "share", style: { width: `${(100 * query.total_s) / most}%` }, "aria-hidden": "true" }));
    row.cells.p95_s.textContent = duration(query.p95_s);
    row.cells.rows.textContent = number(query.rows);
    const lane = laneOf(query);
    row.cells.lane.replaceChildren(lane ? h("span", { class: "lane", data: { lane } }, lane) : "–");
    row.flags.replaceChildren(
      ...[query.repeats && h("span", { class: "flag", title: "One line has sent it so often in one request" }, `×${query.repeats.times}`),
        query.errors > 0 && h("span", { class: "bad" }, counted(query.errors, "error")),
        this.model.several && h("span", { class: "tag" }, query.database)].filter(Boolean));
    row.facts.replaceChildren(this.facts(query));
  }

  facts(query) {
    const listed = (counts, shown) => Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([each, times]) => h("div", {}, shown(each), h("span", { class: "dim" }, ` ${counted(times, "time")}`)));
    const { repeats } = query;
    return h("dl", {},
      repeats && [h("dt", {}, "repeated"), h("dd", {}, h("span", { class: "flag" }, `×${repeats.times}`), " in one request", repeats.site && [" by ", site(repeats.site)], ": ", h("a", { href: `#/live/${repeats.trace}` }, "show it"))],
      h("dt", {}, "sent by"), h("dd", {}, Object.keys(query.sites).length ? listed(query.sites, (each) => site(each)) : "–"),
      Object.keys(query.lanes).length > 0 && [h("dt", {}, "lane"), h("dd", {}, listed(query.lanes, (each) => each))],
      Object.keys(query.refusals).length > 0 && [h("dt", {}, "why no faster one"), h("dd", {}, listed(query.refusals, (each) => each))],
      Object.keys(query.servers).length > 0 && [h("dt", {}, "servers"), h("dd", {}, listed(query.servers, shortName))],
      h("dt", {}, "took"), h("dd", {}, `${duration(query.total_s / Math.max(1, query.count))} on average, ${duration(query.longest_s)} at most`),
      query.cut && [h("dt", {}, "text"), h("dd", {}, "its end was not kept: it is too long")]);
  }

  move(step) {
    const heads = [...this.list.querySelectorAll(".query.head")];
    const here = heads.indexOf(document.activeElement?.closest(".query-item")?.querySelector(".head"));
    heads[Math.max(0, Math.min(heads.length - 1, here + step))]?.focus();
  }
}
