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
      ...[this.swallowed(present.swallowed)].filter(Boolean),
      h("p", { class: "dim" }, `The panel keeps ${bytes(present.memory.used)}`, present.memory.forgotten > 0 && `; ${counted(present.memory.forgotten, "older trace")} had to go`, "."),
    );
    if (chosen) this.element.querySelector(`[data-cell="${CSS.escape(chosen)}"]`)?.focus({ preventScroll: true });
  }

  database(told) {
    const several = told.servers.length > 1 || told.servers.some((each) => each.role !== "primary");
    return h("article", { class: "card" },
      h("h2", {}, told.name, h("span", { class: "tag" }, told.kind), told.closed && h("span", { class: "tag" }, "disposed of")),
      told.error && h("p", { class: "bad" }, told.error),
      several && this.servers(told.servers),
      told.servers.flatMap((server) => server.pools.map((pool, place) => this.pool(told, server, pool, place))),
      this.sessions(told.sessions));
  }

  pool(told, server, pool, place) {
    const free = pool.capacity === null ? 0 : Math.max(0, pool.capacity - pool.in_use - pool.idle);
    const byHand = Math.max(0, pool.in_use - pool.held.length);
    const cells = [
      ...pool.held.map((each, number) => this.cell(`${told.name} ${server.address} ${place} ${number}`, "used", each)),
      ...this.several(byHand, "used"), ...this.several(pool.idle, "idle"), ...this.several(free, "free"),
    ];
    const words = `${counted(pool.in_use, "connection")} in use, ${pool.idle} idle, ${pool.capacity === null ? "no limit" : `${free} more may be opened`}`;
    return h("div", { class: "pool" },
      h("h3", {}, server.address ?? "Connections", told.servers.length > 1 && h("span", { class: "tag" }, server.role), h("span", { class: "dim" }, words)),
      h("ul", { class: "cells", "aria-label": words }, cells),
      pool.held.length > 0 && this.table(["held by", "for", "opened by", "last statement"], pool.held.map((each) => [
        h("span", { title: each.owner }, shortName(each.owner), each.in_transaction && [" ", h("span", { class: "tag" }, "in a transaction")]),
        h("span", { class: each.held_s > 1 ? "bad number" : "number" }, duration(each.held_s)),
        site(each.opener) ?? "–",
        each.last_statement ? sql(each.last_statement, { title: each.last_statement }) : h("span", { class: "dim" }, "none yet"),
      ])),
      byHand > 0 && h("p", { class: "dim" }, `${counted(byHand, "connection was", "connections were")} taken by hand, such as from db.engine.`),
      this.waiting("Waiting for a connection", pool.waiting),
      pool.writer && h("p", {}, "Writing: ", h("b", {}, shortName(pool.writer.owner)), ` for ${duration(pool.writer.write_s)}`),
      pool.writer && this.waiting("Waiting to write", pool.writer.waiting));
  }

  several(times, state) {
    return Array.from({ length: Math.min(times, 200) }, () => this.cell("", state, null));
  }

  cell(name, state, holder) {
    const words = { used: "in use", idle: "open and idle", free: "not opened yet" }[state];
    const told = holder ? `${shortName(holder.owner)}, for ${duration(holder.held_s)}` : words;
    return h("li", { class: "cell", data: name ? { state, cell: name } : { state }, tabindex: holder ? "0" : null, title: told, "aria-label": told });
  }

  waiting(title, waiting) {
    if (!waiting.length) return null;
    return h("div", {}, h("h3", { class: "waited" }, title),
      this.table(["who", "for"], waiting.map((each) => [each.who, h("span", { class: "number" }, duration(each.wait_s))])));
  }

  sessions(sessions) {
    return sessions.map((each) => h("div", {},
      h("h3", { class: "waited" }, "Waiting for a turn"),
      h("p", {}, "The session is used by ", h("b", {}, each.task ? `task '${each.task}'` : shortName(each.owner)), each.task && ` for ${shortName(each.owner)}`),
      this.table(["who waits", "for"], each.waiting.map((one) => [one.who, h("span", { class: "number" }, duration(one.wait_s))]))));
  }

  servers(servers) {
    const most = Math.max(1, ...servers.map((each) => each.lag_s ?? 0));
    return h("div", {}, h("h3", {}, "Servers"),
      this.table(["server", "role", "behind", "state"], servers.map((each) => [
        each.address,
        each.role,
        each.lag_s === null ? "–" : h("span", { class: "lag" }, h("span", { class: "number" }, duration(each.lag_s)), h("meter", { min: 0, max: most, high: 1, value: each.lag_s, "aria-label": "seconds behind" })),
        each.reachable === null ? h("span", { class: "dim" }, each.problem ?? "takes work")
          : each.problem ? h("span", { class: "bad" }, each.problem) : h("span", { class: "good" }, "takes work"),
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
