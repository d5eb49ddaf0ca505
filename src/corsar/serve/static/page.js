// One person, and all that the model answers to them: lists that move with every event, and what a channel is worth.

import { ask, newId, query as asQuery } from "./ask.js";
import { drawMap, drawRhythm } from "./charts.js";
import { combobox } from "./combo.js";
import { ASKED, SHOWN, rankedList } from "./lists.js";
import { byId, count } from "./make.js";
import { drawPast } from "./past.js";

const TYPING_MS = 150;
const EVENTS = 100; // of the timeline
const state = { user: null, without: [], unseen: false, query: "", session: null, mix: 0, view: "lists", events: [] };
const lists = {}; // name -> {path, body, draw, busy, full, ticket}
let tasks = new Set();

/** Run something that a person asked for, and say what went wrong. */
async function act(doing) {
  const trouble = byId("trouble");
  try {
    await doing();
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = `${error.message}.`;
    trouble.hidden = false;
  }
}

// what is asked

const common = () => ({ user_id: state.user, k: ASKED, exclude_seen: state.unseen });

function bodyOf(name, without = state.without) {
  if (name === "feed") return { ...common(), without };
  if (name === "search") return { ...common(), without, query: state.query, mix: state.mix };
  return common();
}

const EVENT = "Since the last event: ";

/** Ask a list anew. A cut one is compared with the whole one, another with what it was, where `since` says since when. */
async function refresh(name, since) {
  const list = lists[name];
  if (!list) return;
  const mine = (list.ticket += 1);
  if (name === "search" && !state.query.trim()) {
    list.full = null;
    list.draw([], null, { empty: "Type a query: results come as you type." });
    return;
  }
  list.busy();
  const isCut = name !== "places" && state.without.length > 0;
  const [full, cut] = await Promise.all([ask(list.path, bodyOf(name, [])), isCut ? ask(list.path, bodyOf(name)) : null]);
  if (mine !== list.ticket) return; // somebody has asked since
  const before = since ? list.full : null;
  list.full = full.items;
  const shown = cut ?? full;
  const what = isCut ? `Without ${state.without.map((one) => (one === "search" ? "searches" : "feed events")).join(" and ")}: ` : since;
  list.draw(shown.items, isCut ? full.items : before, { notes: shown.notes, what, empty: "Nothing is found." });
  if (name === "places") await drawPlaces(shown.items.slice(0, SHOWN));
}

async function refreshPast() {
  const user = state.user;
  const { events } = await ask(`v1/users/${encodeURIComponent(user)}/events?${asQuery({ k: EVENTS })}`);
  if (user !== state.user) return;
  state.events = events;
  drawPast(events, state.without);
}

async function refreshAll(since) {
  const past = refreshPast();
  await Promise.all([past, refresh("feed", since), refresh("search", since), past.then(() => refreshView(since))]);
}

/** What the open tab shows, where it is more than the lists. */
async function refreshView(since) {
  if (state.view === "map") await refresh("places", since);
  if (state.view === "rhythm") await drawRhythm(await ask(`v1/users/${encodeURIComponent(state.user)}/rhythm`));
}

async function drawPlaces(candidates) {
  const visits = new Map();
  const been = state.events.filter((event) => event.kind === "checkin").flatMap((event) => event.items.map((item) => String(item.item_id)));
  been.forEach((id) => visits.set(id, (visits.get(id) ?? 0) + 1));
  const ids = [...new Set([...candidates.map((item) => String(item.item_id)), ...been])].slice(0, 100);
  const found = ids.length ? await ask(`v1/places?${asQuery(ids.map((id) => ["item_id", id]))}`) : { places: [] };
  await drawMap(found.places, visits, been[0], candidates);
}

// what a person does

async function send(...events) {
  await ask("v1/events", { events: events.map((event) => ({ user_id: state.user, key: newId(), ...event })) });
  await refreshAll(EVENT);
}

const click = (item) => act(() => send({ kind: "feed", item_id: item.item_id }));
const visit = (item) => act(() => send({ kind: "checkin", item_id: item.item_id, utc_offset_min: -new Date().getTimezoneOffset() }));

function clickResult(item) {
  const events = [{ kind: "search", item_id: item.item_id }];
  if (!state.session) {
    state.session = newId();
    events.unshift({ kind: "search", query: state.query });
  }
  return act(() => send(...events.map((event) => ({ ...event, session_id: state.session }))));
}

function search(text) {
  state.query = text;
  if (!text.trim()) return;
  state.session = newId();
  act(() => send({ kind: "search", query: text, session_id: state.session }));
}

let typing = 0;
function type(text) {
  state.query = text;
  state.session = null;
  clearTimeout(typing);
  typing = setTimeout(() => act(() => refresh("search", null)), TYPING_MS);
}

function choose(user) {
  state.user = user;
  state.session = null;
  byId("user").value = user;
  history.replaceState(null, "", `#user=${encodeURIComponent(user)}`);
  act(async () => {
    const { users } = await ask(`v1/users?${asQuery({ prefix: user, k: 1 })}`);
    byId("who").textContent = users[0]?.user_id === user ? known(users[0]) : `${user} is new: nothing is known of them yet.`;
    await refreshAll(null);
  });
}

const parts = ({ feed, searches, check_ins: checkIns }) =>
  [feed && count(feed, "feed event"), searches && count(searches, "search", "searches"), checkIns && count(checkIns, "check-in")].filter(Boolean);

function known(user) {
  const logged = parts(user);
  return logged.length ? `${user.user_id}: the model holds ${logged.join(", ")} of the logs.` : `${user.user_id} is in no log, but has sent events.`;
}

// the page

function show(view) {
  state.view = view;
  for (const one of ["lists", "rhythm", "map"]) {
    byId(one).hidden = one !== view;
    byId(`tab-${one}`).setAttribute("aria-selected", String(one === view));
    byId(`tab-${one}`).tabIndex = one === view ? 0 : -1;
  }
}

function tabs() {
  const all = ["lists", "rhythm", "map"].map((one) => byId(`tab-${one}`));
  for (const tab of all) {
    tab.onclick = () => {
      show(tab.id.slice(4));
      act(() => refreshView(null));
    };
    tab.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const there = all.filter((one) => !one.hidden);
      const next = there[(there.indexOf(tab) + step + there.length) % there.length];
      next.focus();
      next.click();
    };
  }
}

async function canExplain() {
  const schema = await ask("openapi.json");
  return "explain" in schema.components.schemas.RecommendBody.properties;
}

function makeLists(explains) {
  const why = (path, name) => (explains && tasks.has(name === "feed" ? "recommend" : name)
    ? async (item) => {
      const told = await ask(path, { ...bodyOf(name), k: SHOWN, explain: true });
      return { ...told.items.find((one) => one.item_id === item.item_id), method: told.method };
    } : null);
  const add = (task, name, path, choose, verb) => {
    const card = byId(name);
    card.hidden = !tasks.has(task);
    if (tasks.has(task)) lists[name] = { path, full: null, ticket: 0, ...rankedList(name, { choose, why: name === "places" ? null : why(path, name), verb }) };
  };
  add("recommend", "feed", "v1/recommend", click, "Take it: a feed event");
  add("search", "search", "v1/search", clickResult, "Click it: a click in this search");
  add("next_place", "places", "v1/next-place", visit, "Go there: a check-in");
}

function wire() {
  combobox(byId("user"), byId("user-options"), {
    find: async (text) => (await ask(`v1/users?${asQuery({ prefix: text.trim() === state.user ? "" : text.trim(), k: 8 })}`)).users
      .map((user) => ({ value: user.user_id, note: parts(user).join(", ") || "live" })),
    choose,
    takesText: true,
  });
  combobox(byId("query"), byId("query-options"), {
    find: async (text) => (await ask(`v1/queries?${asQuery({ prefix: text, k: 8 })}`)).queries
      .map((one) => ({ value: one.query, note: `${one.count}×` })),
    choose: search,
    typed: type,
  });
  byId("search-form").onsubmit = (event) => {
    event.preventDefault();
    clearTimeout(typing);
    search(byId("query").value);
  };
  byId("fresh").onclick = () => choose(`new-${newId().slice(0, 6)}`);
  for (const channel of ["feed", "search"]) {
    byId(`reads-${channel}`).onchange = () => {
      state.without = ["feed", "search"].filter((one) => !byId(`reads-${one}`).checked);
      drawPast(state.events, state.without);
      act(() => Promise.all([refresh("feed", null), refresh("search", null)]));
    };
  }
  byId("unseen").onchange = (event) => {
    state.unseen = event.target.checked;
    act(() => refreshAll(null));
  };
  byId("mix").oninput = (event) => {
    state.mix = Number(event.target.value);
    event.target.setAttribute("aria-valuetext", state.mix ? `${Math.round(100 * state.mix)} % by the words` : "the model alone");
    clearTimeout(typing);
    typing = setTimeout(() => act(() => refresh("search", "With the new order: ")), TYPING_MS);
  };
  tabs();
}

async function start() {
  const [version, explains] = await Promise.all([ask("version"), canExplain()]);
  tasks = new Set(version.models.flatMap((model) => model.tasks));
  const told = version.models.filter((model) => model.tasks.length).map((model) =>
    `${model.model} answers ${model.tasks.map((task) => task.replace("_", " ")).join(" and ")} (${count(model.items, "item")}, ${count(model.users, "user")})`);
  byId("served").textContent = told.join(" · ");
  const hasLists = tasks.has("recommend") || tasks.has("search");
  byId("tab-map").hidden = !tasks.has("next_place");
  byId("tab-lists").hidden = !hasLists;
  makeLists(explains);
  wire();
  show(hasLists ? "lists" : "map");
  const wanted = new URLSearchParams(location.hash.slice(1)).get("user");
  const { users } = await ask(`v1/users?${asQuery({ k: 1 })}`);
  byId("bar").inert = byId("main").inert = false;
  choose(wanted ?? users[0]?.user_id ?? `new-${newId().slice(0, 6)}`);
}

act(start);
