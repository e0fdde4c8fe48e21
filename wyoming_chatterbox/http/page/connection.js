/** The WebSocket: messages with their audio, and coming back after it broke. */

import { ask, socketAddress, socketProtocols } from "./server.js";

const PAUSES = [0.5, 1, 2, 4, 8, 15]; // seconds between tries; the last one repeats
const HELLO_SECONDS = 10; // until the server must have said "connected"
const PING_SECONDS = 20; // a Wi-Fi that sleeps drops what is silent for longer
const PONG_SECONDS = 10;

/**
 * Events: "state" with detail {state, seconds, reason}; "message" with detail {message, audio}, audio only with a chunk.
 * States: "connecting", "open", "waiting" (for the try that is `seconds` away), "refused" (no token).
 */
export class Connection extends EventTarget {
  constructor() {
    super();
    this.tries = 0;
    this.state = "connecting";
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => document.hidden || this.retry());
  }

  /** Connect afresh: at the start, and with another token. */
  open() {
    this.drop();
    this.say("connecting");
    let socket;
    try {
      socket = new WebSocket(socketAddress(), socketProtocols());
    } catch (error) {
      this.say("refused", { reason: error.message });
      return;
    }
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => this.closed(event);
    this.watch = setTimeout(() => socket.close(), HELLO_SECONDS * 1000);
  }

  /** Do not wait for the next try. */
  retry() {
    if (this.state === "waiting") this.open();
  }

  send(message) {
    if (this.state !== "open") return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  receive(data) {
    if (typeof data !== "string") {
      const message = this.chunk;
      this.chunk = null;
      if (message) this.emit("message", { message, audio: new Int16Array(data) });
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "connected") {
      this.tries = 0;
      this.say("open");
      this.keepAlive();
    }
    if (message.type === "pong") this.keepAlive();
    else if (message.type === "chunk") this.chunk = message;
    else this.emit("message", { message });
  }

  keepAlive() {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => {
      this.send({ type: "ping" });
      this.watch = setTimeout(() => this.socket.close(), PONG_SECONDS * 1000);
    }, PING_SECONDS * 1000);
  }

  async closed(event) {
    this.drop();
    const seconds = PAUSES[Math.min(this.tries++, PAUSES.length - 1)] * (0.8 + 0.4 * Math.random());
    this.say("waiting", { seconds, reason: event.reason });
    this.again = setTimeout(() => this.open(), seconds * 1000);
    // A browser does not tell why a WebSocket was refused: a plain request does.
    const refusal = await ask("v1/audio/voices").then(() => null, (error) => error);
    if (this.socket !== null) return; // it was opened again meanwhile
    if (refusal?.status === 401 || refusal?.status === 403) {
      clearTimeout(this.again);
      this.say("refused", { reason: refusal.message });
    }
  }

  drop() {
    clearTimeout(this.again);
    clearTimeout(this.watch);
    if (this.socket) {
      this.socket.onclose = this.socket.onmessage = null;
      this.socket.close();
    }
    this.socket = null;
    this.chunk = null;
  }

  say(state, detail = {}) {
    this.state = state;
    this.emit("state", { state, ...detail });
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
