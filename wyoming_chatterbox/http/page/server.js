/** What the page asks the server over HTTP, and the token it shows. */

const TOKEN = "chatterbox-token";

/** An answer that is no success: `code` and `message` are the server's own where it gave any. */
export class ServerError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

/** Whether a token can be sent at all: in a WebSocket's subprotocol stand only these characters. */
export const sendable = (value) => /^[A-Za-z0-9._~+-]+$/.test(value);

/** An address beside the page's own, also behind a proxy that puts the page into a folder. */
export const address = (path) => new URL(path, document.baseURI);

export function socketAddress() {
  const url = address("ws/stream/audio");
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

export const socketProtocols = () => (token.get() ? ["chatterbox", `bearer.${token.get()}`] : []);

/** JSON of an answer. Raises ServerError; `accept` lists statuses that are no error. */
export async function ask(path, { method = "GET", body, accept = [] } = {}) {
  const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
  let response;
  try {
    response = await fetch(address(path), { method, headers, body, cache: "no-store" });
  } catch {
    throw new ServerError(0, "unreachable", "The server does not answer");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok || accept.includes(response.status)) return answer;
  throw failure(response, answer);
}

function failure(response, answer) {
  const error = answer?.error ?? answer ?? {};
  const detail = typeof error.detail === "string" ? error.detail : null;
  const message = error.message ?? detail ?? `The server answered ${response.status} ${response.statusText}`;
  return new ServerError(response.status, error.code ?? `http-${response.status}`, message);
}
