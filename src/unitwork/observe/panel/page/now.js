// The view "Now": who has each connection, who waits for whom, how far the replicas are.

import { bytes, counted, duration, h, shortName, site, sql } from "./parts.js";

export class Now {
  constructor(model) {
    this.model = model;
    this.element = h("section", { class: "now" });
  }

  title = "Now";

  update() {
    this.refresh();
  }

  refresh() {
    const { present } = this.model;
    if (!present) {
      this.element.replaceChildren(h("div", { class: "empty" }, h("p", { class: "big" }, "Waiting for the program …")));
      return;
    }
    // What a person points at or has marked stays while it is looked at.
    const chosen = document.activeElement?.dataset?.cell;
    this.element.replaceChildren(
      ...present.databases.map((each) => this.database(each)),
      this.swallowed(present.swallowed),
      h("p", { class: "dim" }, `The panel keeps ${bytes(present.memory.used)}`, present.memory.forgotten > 0 && `; ${counted(present.memory.forgotten, "older trace")} had to go`, "."),
    );
    if (chosen) this.element.querySelector(`[data-cell="${CSS.escape(chosen)}"]`)?.focus({ preventScroll: true });
  }

  database(told) {
    return h("article", { class: "card" },
      h("h2", {}, told.name, h("span", { class: "tag" }, told.kind), told.disposed && h("span", { class: "tag" }, "closed: no connection is open")),
      told.error && h("p", { class: "bad" }, told.error),
      told.pools.map((pool) => this.pool(told, pool)),
      this.turns(told.turns),
      this.servers(told.servers));
  }

  pool(told, pool) {
    const free = pool.capacity === null ? 0 : Math.max(0, pool.capacity - pool.in_use - pool.idle);
    const cells = [
      ...pool.holders.map((each, place) => this.cell(`${told.name} ${pool.server} ${place}`, "used", each)),
      ...Array.from({ length: Math.max(0, pool.in_use - pool.holders.length) }, () => this.cell("", "used", null)),
      ...Array.from({ length: Math.min(pool.idle, 200) }, () => this.cell("", "idle", null)),
      ...Array.from({ length: Math.min(free, 200) }, () => this.cell("", "free", null)),
    ];
    const words = `${counted(pool.in_use, "connection")} in use, ${pool.idle} idle, ${pool.capacity === null ? "no limit" : `${free} may be opened`}`;
    return h("div", { class: "pool" },
      h("h3", {}, pool.server ?? "connections", pool.role && h("span", { class: "tag" }, pool.role), h("span", { class: "dim" }, words)),
      h("ul", { class: "cells", "aria-label": words }, cells),
      pool.waiting > 0 && h("p", { class: "waited" }, `${counted(pool.waiting, "task")} wait for a connection`),
      pool.holders.length > 0 && this.table(["held by", "for", "opened by", "last statement"], pool.holders.map((each) => [
        h("span", { title: each.owner }, shortName(each.owner)),
        h("span", { class: each.held_s > 1 ? "bad number" : "number" }, duration(each.held_s)),
        site(each.opener) ?? "–",
        each.statement ? sql(each.statement, { title: each.statement }) : h("span", { class: "dim" }, "none yet"),
      ])));
  }

  cell(name, state, holder) {
    const words = { used: "in use", idle: "open and idle", free: "not opened yet" }[state];
    const told = holder ? `${shortName(holder.owner)}, for ${duration(holder.held_s)}` : words;
    return h("li", { class: "cell", data: name ? { state, cell: name } : { state }, tabindex: holder ? "0" : null, title: told, "aria-label": told });
  }

  turns(turns) {
    if (!turns.length) return null;
    return h("div", {}, h("h3", {}, "Waiting for a turn"),
      this.table(["who waits", "for", "for whom"], turns.map((each) => [each.waits, h("span", { class: "number" }, duration(each.wait_s)), each.holder])));
  }

  servers(servers) {
    if (!servers.length) return null;
    const most = Math.max(1, ...servers.map((each) => each.lag_s ?? 0));
    return h("div", {}, h("h3", {}, "Servers"),
      this.table(["server", "role", "behind", "answers in", "position", ""], servers.map((each) => [
        each.name,
        each.role,
        each.lag_s === null ? "–" : h("span", { class: "lag" }, h("span", { class: "number" }, duration(each.lag_s)), h("meter", { min: 0, max: most, high: 1, value: each.lag_s, "aria-label": "seconds behind" })),
        h("span", { class: "number" }, each.latency_ms === null ? "–" : duration(each.latency_ms / 1000)),
        h("code", {}, each.position || "–"),
        each.problem ? h("span", { class: "bad" }, each.problem) : h("span", { class: "good" }, "takes work"),
      ])));
  }

  swallowed(errors) {
    if (!errors.length) return null;
    return h("article", { class: "card" }, h("h2", {}, "Failed without being raised"),
      h("p", { class: "dim" }, "Something had happened already that an exception could not undo, such as a COMMIT."),
      this.table(["where", "error", "database", "times"], errors.map((each) => [each.place, h("span", { class: "bad" }, each.error), each.database, h("span", { class: "number" }, each.times)])));
  }

  table(heads, rows) {
    return h("div", { class: "scroll", tabindex: "0" }, h("table", {},
      h("thead", {}, h("tr", {}, heads.map((each) => h("th", { scope: "col" }, each)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((each, place) => h("td", { data: { head: heads[place] } }, each)))))));
  }

  move() {}
}
