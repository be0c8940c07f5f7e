// What the views share: elements, words and numbers. Text is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: h("div", {class: "x", onclick: f, style: {left: "1%"}}, "text", child, …). */
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  decorate(made, properties, children);
  return made;
}

/** Make an element of a drawing. */
export function s(tag, properties = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  decorate(made, properties, children);
  return made;
}

function decorate(made, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) made.style.setProperty(key, each);
    else if (name === "data") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "…";
  if (seconds < 0.00095) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 0.00995) return `${(seconds * 1e3).toFixed(2)} ms`;
  if (seconds < 0.0995) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 0.9995) return `${(seconds * 1e3).toFixed(0)} ms`;
  if (seconds < 99.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  return `${(seconds / 60).toFixed(1)} min`;
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en").replaceAll(",", "\u2009");
}

export function counted(value, noun, plural = `${noun}s`) {
  return `${number(value)} ${value === 1 ? noun : plural}`;
}

export function bytes(value) {
  return value < 1e6 ? `${Math.ceil(value / 1e3)} kB` : `${(value / 1e6).toFixed(1)} MB`;
}

export function clock(seconds) {
  const time = new Date(seconds * 1000);
  const two = (part) => String(part).padStart(2, "0");
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

/** What a person calls a request or block; messages call it with more words. */
export function shortName(name) {
  const request = /^the (?:request|message|job|call|operation|task) (.+)$/s.exec(name);
  if (request) return request[1];
  const place = /^the (block|unit of work) at .*?([^/\\]+:\d+)$/s.exec(name);
  if (place) return `${place[1]} at ${place[2]}`;
  if (/^[\w.<>]+$/.test(name)) return name.split("<locals>.").pop().split(".").slice(-2).join(".");
  return name;
}

/** The same where words stand before it. */
export function nameInSentence(name) {
  const short = shortName(name);
  return /^(block|unit of work) at /.test(short) ? `the ${short}` : short;
}

/** A line of code, by its file and folder; whole where one points at it. */
export function site(place, label = "") {
  if (!place) return null;
  const short = place.split(/[/\\]/).slice(-2).join("/");
  return h("span", { class: "site", title: place }, label, h("code", {}, short));
}

const WORDS = new Set(
  ("SELECT FROM WHERE AND OR NOT IN IS NULL INSERT INTO VALUES UPDATE SET DELETE JOIN LEFT OUTER INNER ON AS ORDER BY " +
    "GROUP HAVING LIMIT OFFSET RETURNING DISTINCT WITH UNION ALL EXISTS BETWEEN LIKE CASE WHEN THEN ELSE END BEGIN " +
    "COMMIT ROLLBACK SAVEPOINT RELEASE TO TRANSACTION READ ONLY WRITE IMMEDIATE DEFERRED START FOR SHARE CREATE TABLE " +
    "INDEX DROP ALTER PRAGMA CONFLICT DO NOTHING DESC ASC ISOLATION LEVEL EXPLAIN").split(" "),
);

/** SQL with its keywords marked; strings are left alone. */
export function sql(text, properties = {}) {
  const parts = text.match(/'(?:[^']|'')*'|"[^"]*"|\w+|[^\w'"]+|['"]/g) ?? [];
  const shown = [];
  let plain = "";
  for (const part of parts) {
    if (WORDS.has(part.toUpperCase())) {
      if (plain) shown.push(plain);
      shown.push(h("b", {}, part));
      plain = "";
    } else plain += part;
  }
  if (plain) shown.push(plain);
  return h("code", { class: "sql", ...properties }, shown);
}

/** Whether a statement reads, writes, or only controls the transaction. */
export function sort(text, control) {
  if (control) return "control";
  return /^\s*(?:WITH|SELECT|VALUES|TABLE|SHOW|PRAGMA|EXPLAIN)\b/i.test(text) ? "read" : "write";
}

const SHAPES = {
  COMMITTED: ["M3 8.5 6.5 12 13 4.5", "committed"],
  SAVEPOINT_KEPT: ["M8 2.5 13.5 8 8 13.5 2.5 8Z", "savepoint kept"],
  ROLLED_BACK: ["M4 4 12 12M12 4 4 12", "rolled back"],
  SAVEPOINT_UNDONE: ["M6 3 3 6l3 3M3.5 6H10a3 3 0 0 1 0 6.5H6", "undone to the savepoint"],
  JOINED: ["M8 2.5V13.5M8 8h5.5", "left to the outer transaction"],
  CONDEMNED: ["M8 2 14.5 13.5h-13ZM8 6.5v3.5M8 11.8v.2", "failed: what it joined must be undone"],
  NO_TRANSACTION: ["M3 8h10", "ended without a transaction"],
  UNKNOWN: ["M5.5 6a2.5 2.5 0 1 1 3.5 2.3c-.7.3-1 .8-1 1.7M8 12.5v.2", "outcome unknown"],
  REFUSED: ["M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11ZM4.2 4.2l7.6 7.6", "refused"],
  OPEN: ["M8 3v5l3 2", "still open"],
};

/** The sign of an outcome: a shape, a colour, and words for those who see neither. */
export function sign(outcome) {
  const [path, words] = SHAPES[outcome ?? "OPEN"] ?? SHAPES.UNKNOWN;
  return h(
    "span",
    { class: "sign", data: { outcome: outcome ?? "OPEN" }, role: "img", "aria-label": words, title: words },
    s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, s("path", { d: path })),
  );
}

export const OUTCOMES = Object.entries(SHAPES).map(([name, [, words]]) => [name, words]);

/** Ask the program for something, as this page alone can. */
export async function ask(path, data) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-unitwork-panel": "1" },
    body: JSON.stringify(data),
    cache: "no-store",
  });
  const told = await answer.json().catch(() => ({ error: `The program answered ${answer.status}.` }));
  return answer.ok ? told : { error: told.error ?? `The program answered ${answer.status}.` };
}

/** A button that asks how the database would run a statement, and, by a second one, how it did. */
export function explainer(query, kind, text) {
  const output = h("div", { class: "plan", "aria-live": "polite" });
  const run = async (analyze) => {
    output.replaceChildren(h("p", { class: "dim" }, "Asking the database …"));
    const told = await ask("explain", { query, analyze }).catch((error) => ({ error: String(error) }));
    if (told.error) output.replaceChildren(h("p", { class: "bad" }, told.error));
    else {
      const note = told.note ? [h("p", { class: "dim" }, told.note)] : [];
      output.replaceChildren(h("pre", { tabindex: "0" }, told.lines.join("\n")), ...note);
    }
    if (!analyze && !told.error && kind !== "sqlite" && sort(text, false) === "read") output.append(chooser);
  };
  const sure = h("button", { type: "button", class: "danger", onclick: () => run(true) }, "Run it now");
  const chooser = h(
    "details",
    { class: "sure" },
    h("summary", {}, "Run it, to see what it really takes …"),
    h("p", {}, "ANALYZE runs the statement on the database, in a read-only transaction that is rolled back, for 10 s at most. "),
    sure,
  );
  const button = h("button", { type: "button", class: "explain", onclick: () => run(false) }, "Explain");
  return [button, output];
}
