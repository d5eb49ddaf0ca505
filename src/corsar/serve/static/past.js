// The timeline: events of all kinds, the newest first, told apart by shape and by word.

import { byId, count, make } from "./make.js";

const WORDS = { feed: "feed", search: "search", checkin: "check-in" };
const DATE = { month: "short", day: "numeric", timeZone: "UTC" };
const THIS_YEAR = new Intl.DateTimeFormat("en", { ...DATE, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const EARLIER = new Intl.DateTimeFormat("en", { ...DATE, year: "numeric" });

function when(event) {
  if (event.time_ms === null) return make("span", { class: "when" }, event.is_live ? "now" : "in the logs");
  const age = Date.now() - event.time_ms;
  const iso = new Date(event.time_ms).toISOString();
  const format = iso.slice(0, 4) === new Date().toISOString().slice(0, 4) ? THIS_YEAR : EARLIER;
  const minutes = Math.floor(age / 60_000);
  const told = event.is_live && minutes < 60 ? (minutes ? `${minutes} min ago` : "just now") : format.format(event.time_ms);
  return make("time", { class: "when", datetime: iso, title: `${iso} UTC` }, told);
}

function line(event, without) {
  const items = event.items.map((item) => item.text || `item ${item.item_id}`);
  const what = event.kind === "search"
    ? [make("b", {}, event.query ? `“${event.query}”` : "a search"), items.length ? ` → ${items.join(", ")}` : make("span", { class: "soft" }, " no click")]
    : [items.join(", ") || "an item that the catalogue does not know"];
  const isOff = without.includes(event.kind);
  return make("li", { class: isOff ? "off" : event.is_live ? "live" : null },
    make("span", { class: `kind ${event.kind}`, "aria-hidden": "true" }),
    make("span", { class: "word" }, WORDS[event.kind], isOff ? make("span", { class: "soft" }, ", not read") : null),
    make("span", { class: "what" }, ...what), when(event));
}

/** Draw the timeline of the user; kinds in `without` are shown as not read. */
export function drawPast(events, without) {
  byId("past-list").replaceChildren(...events.map((event) => line(event, without)));
  const live = events.filter((event) => event.is_live).length;
  byId("past-say").textContent = `Timeline: ${count(events.length, "event")}, ${live} of them live.`;
  if (!events.length) byId("past-list").append(make("li", { class: "none" }, "Nothing yet: click an item, or search."));
}
