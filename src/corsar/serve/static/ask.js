// Questions to the service. A key, where one is asked for, is kept in this tab alone.

const KEY = "corsar-key";
let asking = null;

/** The JSON that a route answers; an Error with the service's own sentence where it refuses. */
export async function ask(path, body = null, again = true) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) }).catch(() => {
    throw new Error("the service does not answer; start it, and load this page again");
  });
  if (answer.status === 401) {
    await (asking ??= askForKey(Boolean(key)).finally(() => (asking = null)));
    return ask(path, body, again);
  }
  if (answer.status === 503 && again) {
    await new Promise((go) => setTimeout(go, 1000 * Number(answer.headers.get("Retry-After") ?? 1)));
    return ask(path, body, false);
  }
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

async function askForKey(wasWrong) {
  const dialog = document.getElementById("key-dialog");
  const field = document.getElementById("key");
  if (wasWrong) document.getElementById("key-hint").textContent = "That key was not right; try again.";
  field.value = "";
  dialog.showModal();
  await new Promise((go) => {
    dialog.oncancel = (event) => event.preventDefault(); // nothing can be shown without it
    document.getElementById("key-form").onsubmit = go;
  });
  sessionStorage.setItem(KEY, field.value);
}

/** A random id; `crypto.randomUUID` is not there where a page comes from another machine. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A query string of the parts. */
export function query(parts) {
  return new URLSearchParams(parts).toString();
}
