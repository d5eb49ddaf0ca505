// A text field that completes what is typed: the combobox pattern of ARIA, with a list box below.

import { make } from "./make.js";

/**
 * Make a combobox of an input and its list.
 *
 * `find(text)` gives rows of {value, note}; `choose(value)` is told what was picked, or typed and sent with Enter where
 * `takesText`. `typed(text)` is told each change.
 */
export function combobox(input, list, { find, choose, typed = () => {}, takesText = false }) {
  let rows = [];
  let active = -1;
  let ticket = 0;
  let timer = 0;
  for (const [name, value] of Object.entries({
    role: "combobox", "aria-expanded": "false", "aria-controls": list.id, "aria-autocomplete": "list",
  })) input.setAttribute(name, value);
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Suggestions");

  function show(found) {
    rows = found;
    active = -1;
    list.replaceChildren(...rows.map((row, at) =>
      make("li", { role: "option", id: `${list.id}-${at}`, "aria-selected": "false", onpointerdown: (event) => {
        event.preventDefault(); // the field keeps the focus
        pick(at);
      } }, make("span", {}, row.value), make("span", { class: "note" }, row.note))));
    list.hidden = !rows.length;
    input.setAttribute("aria-expanded", String(rows.length > 0));
    input.removeAttribute("aria-activedescendant");
  }

  function mark(at) {
    active = (at + rows.length) % rows.length;
    [...list.children].forEach((row, n) => row.setAttribute("aria-selected", String(n === active)));
    list.children[active].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", list.children[active].id);
  }

  function pick(at) {
    input.value = rows[at].value;
    close();
    choose(input.value);
  }

  function close() {
    ticket += 1;
    clearTimeout(timer);
    show([]);
  }

  async function look() {
    const mine = ++ticket;
    const found = await find(input.value).catch(() => []);
    if (mine === ticket && document.activeElement === input) show(found);
  }

  input.addEventListener("input", () => {
    typed(input.value);
    clearTimeout(timer);
    timer = setTimeout(look, 120);
  });
  input.addEventListener("focus", () => takesText && input.select());
  input.addEventListener("click", () => list.hidden && look());
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) look();
      else mark(event.key === "ArrowDown" ? active + 1 : active < 0 ? -1 : active - 1);
    } else if (event.key === "Enter" && active >= 0) {
      event.preventDefault();
      pick(active);
    } else if (event.key === "Enter" && takesText) {
      event.preventDefault();
      close();
      if (input.value.trim()) choose(input.value.trim());
    } else if (event.key === "Enter") {
      close();
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      close();
    }
  });
  return { close };
}
