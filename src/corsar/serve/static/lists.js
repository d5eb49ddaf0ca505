// Ranked lists: what moved since the list that this one is compared with, and why an item is there.

import { byId, count, make } from "./make.js";

export const SHOWN = 10; // items of a list
export const ASKED = 50; // items that are asked for, so that moves are known beyond those shown

/** Where each of the shown items was, 0 where it was not among those asked for; and what has left the shown ones. */
export function moves(before, now) {
  const was = new Map(before.map((item, at) => [item.item_id, at + 1]));
  const is = new Map(now.map((item, at) => [item.item_id, at + 1]));
  const shown = now.slice(0, SHOWN).map((item) => ({ item, was: was.get(item.item_id) ?? 0 }));
  const gone = before.slice(0, SHOWN).map((item, at) => ({ item, was: at + 1, is: is.get(item.item_id) ?? 0 }))
    .filter(({ is: place }) => !place || place > SHOWN);
  return { shown, gone };
}

/** How a list changed, in a sentence. */
export function sentence({ shown }, what) {
  const fresh = shown.filter(({ was }) => !was || was > SHOWN).length;
  const up = shown.filter(({ was }, at) => was && was <= SHOWN && was > at + 1).length;
  const down = shown.filter(({ was }, at) => was && was < at + 1).length;
  const told = `${what}${fresh} of the top ${shown.length} ${fresh === 1 ? "is" : "are"} new, ${up} moved up, ${down} down`;
  return fresh + up + down ? `${told}.` : `${what}the top ${shown.length} did not change.`;
}

function moveMark(was, rank) {
  const beyond = !was || was > SHOWN;
  if (was === rank) return null;
  const [kind, sign, told] = beyond
    ? ["new", "new", was ? `new among the top ${SHOWN}, it was ${was}` : `new, it was below ${ASKED}`]
    : was > rank ? ["up", `▲ ${was - rank}`, `up ${was - rank}, it was ${was}`]
      : ["down", `▼ ${rank - was}`, `down ${rank - was}, it was ${was}`];
  return make("span", { class: `move ${kind}`, title: told }, make("span", { "aria-hidden": "true" }, sign),
    make("span", { class: "unseen" }, told));
}

/**
 * A list that is drawn again and again into the same place.
 *
 * `choose(item)` is told of a click. `why(item)` gives reasons; it is null where the service knows none.
 */
export function rankedList(name, { choose, why, verb }) {
  const list = byId(`${name}-list`);

  function line({ item, was }, rank, compared) {
    const more = [item.km != null ? `${item.km} km` : null, item.visits ? count(item.visits, "visit") : null].filter(Boolean);
    const open = make("button", { type: "button", class: "item", title: verb, onclick: () => choose(item) },
      make("span", { class: "rank" }, String(rank)),
      make("span", { class: "text" }, item.text || `item ${item.item_id}`),
      make("span", { class: "id" }, [String(item.item_id), ...more].join(" · ")));
    const row = make("li", { "data-id": item.item_id }, open, compared ? moveMark(was, rank) : null);
    if (why) row.append(whyButton(item, why));
    return row;
  }

  /** Draw the answer; `base` is the list that it is compared with, null for none. */
  function draw(items, base, { notes = [], what = "", empty = "" } = {}) {
    const places = new Map([...list.children].map((row) => [row.dataset.id, row.getBoundingClientRect().top]));
    const focused = list.contains(document.activeElement) ? document.activeElement.closest("li")?.dataset.id : undefined;
    const found = moves(base ?? items, items);
    list.replaceChildren(...found.shown.map((one, at) => line(one, at + 1, Boolean(base))));
    if (focused !== undefined) {
      ([...list.children].find((row) => row.dataset.id === focused)?.querySelector(".item") ?? list).focus();
    }
    slide(list, places, Boolean(base));
    const told = [base ? sentence(found, what) : "", ...notes.map(asSentence), items.length ? "" : empty];
    byId(`${name}-say`).textContent = told.filter(Boolean).join(" ");
    const gone = base ? found.gone.map(({ item, was, is }) => `${item.text || item.item_id} (${was} → ${is || `below ${ASKED}`})`) : [];
    byId(`${name}-gone`).textContent = gone.length ? `Left the top ${SHOWN}: ${gone.join(", ")}.` : "";
    list.removeAttribute("aria-busy");
  }

  return { draw, busy: () => list.setAttribute("aria-busy", "true") };
}

const asSentence = (note) => `${note[0].toUpperCase()}${note.slice(1)}.`;

function slide(list, places, compared) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const row of list.children) {
    const from = places.get(row.dataset.id);
    const shift = from === undefined ? 0 : from - row.getBoundingClientRect().top;
    if (shift) row.animate([{ transform: `translateY(${shift}px)` }, { transform: "none" }], { duration: 350, easing: "ease-out" });
    else if (from === undefined && compared) row.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 350 });
  }
}

function whyButton(item, why) {
  const reasons = make("div", { class: "reasons", hidden: true });
  const button = make("button", { type: "button", class: "why", "aria-expanded": "false", onclick: async () => {
    reasons.hidden = !reasons.hidden;
    button.setAttribute("aria-expanded", String(!reasons.hidden));
    if (reasons.hidden || reasons.childElementCount) return;
    reasons.textContent = "Asking …";
    try {
      reasons.replaceChildren(...reasonLines(await why(item)));
    } catch (error) {
      reasons.textContent = asSentence(error.message);
    }
  } }, "why?", make("span", { class: "unseen" }, ` ${item.text || item.item_id}`));
  const both = document.createDocumentFragment();
  both.append(button, reasons);
  return both;
}

/** What the service tells of an item: events with weights and drops, and its ranks without either kind of events. */
function reasonLines({ why, without, method }) {
  if (!why?.length) return ["No event of the past speaks for it or against it."];
  const lines = why.map((one) => {
    const part = Math.round(100 * Math.abs(one.weight));
    return make("li", {}, make("span", { class: `kind ${one.kind}`, "aria-hidden": "true" }), make("span", { class: "word" }, one.kind),
      make("span", { class: "text", title: one.text }, one.text || String(one.item_id ?? "")),
      make("meter", { min: 0, max: 100, value: part, "aria-hidden": "true" }),
      make("span", { class: "part" }, `${part} %`),
      make("span", { class: "part", title: "What the score loses without this event" }, signed(-one.drop)));
  });
  const how = method === "attention"
    ? "Where the model looks, of all that it reads, and how the score changes without the event. Attention is no proof of cause."
    : "The share of each event in what the newest ones change, and how the score changes without it.";
  const ranks = [["feed", "feed events"], ["search", "searches"]].filter(([kind]) => without?.[kind])
    .map(([kind, words]) => `${without[kind]} without ${words}`);
  return [make("p", { class: "hint" }, how), make("ul", {}, ...lines), make("p", {}, ranks.length ? `Its rank would be ${ranks.join(", ")}.` : "")];
}

const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(2)}`;
