// The server: what it is asked, and the token that lets this page change something.

const PATIENCE = 10000; // ms; the server itself gives up after 8 s
const STORED = "platoon-token";

// The token comes after the #, which no browser sends anywhere; it is kept for this tab and taken out of sight.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(STORED, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(STORED);
}

let token = takeToken();

export const mayChange = () => token !== null;

// Calls `changed` when somebody opens a link with a token in the tab that shows this page.
export function onToken(changed) {
  addEventListener("hashchange", () => {
    token = takeToken();
    changed();
  });
}

export const get = (path) => ask(path, {});

export function post(command, fields) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  return ask(`/api/${command}`, { method: "POST", headers, body: JSON.stringify(fields) });
}

// The server's answer; throws an Error with one line for people where it refuses or cannot be reached.
async function ask(path, options) {
  let response;
  let value;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE) });
    value = await response.json();
  } catch {
    throw new Error("the run cannot be reached");
  }
  if (!response.ok) throw new Error(value.error ?? `the run answered ${response.status}`);
  return value;
}
