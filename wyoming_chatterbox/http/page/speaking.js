/** One utterance at a time from Speak to its last sample: asks the server, feeds the player, keeps what happened. */

import { Player } from "./player.js";
import { Utterance } from "./utterance.js";

/**
 * Events: "change" with detail {utterance}: it may have new figures; "end" with detail {utterance}: nothing more will
 * be heard of it; "fail" with detail {error: {code, message}}.
 */
export class Speaking extends EventTarget {
  constructor(connection) {
    super();
    this.connection = connection;
    this.player = new Player((report) => this.heard(report));
    this.rate = 24000;
    this.count = 0;
    this.current = null; // the utterance that is made or heard
    this.incoming = null; // the one whose chunks arrive: a stopped one's may still be on their way
    this.replaying = null; // {utterance or null, take, position}
    this.held = null; // messages that came before sound is possible
    connection.addEventListener("message", ({ detail }) => this.receive(detail));
    connection.addEventListener("state", ({ detail }) => detail.state !== "open" && this.lose());
  }

  get busy() {
    return this.current !== null || this.replaying !== null;
  }

  /** @param {object} request voice and settings for the start message */
  async speak(text, request) {
    this.stop();
    const utterance = new Utterance(`page-${++this.count}`, text);
    this.current = utterance;
    this.change(utterance);
    if (!this.connection.send({ type: "start", text, id: utterance.id, ...request })) this.lose();
    this.held ??= []; // the server works while the sound card wakes up
    await this.wake();
    const held = this.held ?? [];
    this.held = null;
    held.forEach((detail) => this.handle(detail));
  }

  /** Make sound possible, or say why it is not. */
  async wake() {
    try {
      await this.player.open(this.rate);
    } catch (error) {
      this.stop();
      this.fail({ code: "no-sound", message: `The browser cannot play sound: ${error.message}. Try another browser.` });
    }
  }

  /** Wake the sound card before it is needed. */
  prepare() {
    this.player.open(this.rate).catch(() => {}); // said when it is needed
  }

  /** Stop what is made and what is heard. */
  stop() {
    const utterance = this.current;
    this.player.stop();
    this.take = null;
    this.replaying = null;
    if (!utterance) return;
    if (!utterance.over) this.connection.send({ type: "cancel", id: utterance.id });
    utterance.stopped = true;
    utterance.over = true;
    this.finish(utterance);
  }

  /** Hear samples again: of an utterance, or of a recording. */
  async replay(pieces, rate, utterance = null) {
    this.stop();
    const replaying = { utterance, take: null, position: 0 };
    this.replaying = replaying;
    await this.wake();
    if (this.replaying !== replaying) return;
    replaying.take = this.player.begin(rate);
    pieces.forEach((piece) => this.player.push(piece));
    this.player.finish();
    this.change(utterance);
  }

  receive(detail) {
    if (this.held && detail.message.type !== "connected") this.held.push(detail);
    else this.handle(detail);
  }

  handle({ message, audio }) {
    if (message.type === "connected") this.rate = message.sample_rate;
    else if (message.type === "started") this.start(message);
    else if (message.type === "chunk") this.add(message, audio);
    else if (message.type === "metrics") this.end(message);
    else if (message.type === "error") this.refuse(message);
  }

  start(message) {
    this.incoming = this.current?.id === message.id ? this.current : null;
    if (!this.incoming) return;
    this.incoming.started(message);
    this.take = this.player.begin(this.incoming.rate);
  }

  add(message, audio) {
    const utterance = this.incoming;
    if (!utterance || utterance.stopped) return;
    utterance.add(message, audio);
    this.player.push(audio);
    this.change(utterance);
  }

  end(message) {
    const utterance = this.current?.id === message.id ? this.current : null;
    this.incoming = null;
    if (!utterance) return;
    utterance.end(message);
    if (this.take === null) this.finish(utterance); // there is nothing to hear
    else this.player.finish();
    this.change(utterance);
  }

  refuse({ code, message, id }) {
    if (id === undefined || this.current?.id === id) this.fail({ code, message });
    if (this.current && this.current.id === id) this.current.error = { code, message };
  }

  /** The connection broke: what has arrived is still heard. */
  lose() {
    const utterance = this.current;
    this.incoming = null;
    if (!utterance || utterance.over) return;
    utterance.lost = true;
    utterance.over = true;
    this.fail({ code: "connection-lost", message: "The connection broke before the end; press Speak to try again." });
    if (this.take === null) this.finish(utterance);
    else this.player.finish();
    this.change(utterance);
  }

  heard(report) {
    if (this.replaying?.take === report.take) {
      this.replaying.position = report.position;
      if (report.kind !== "end") return;
      const { utterance } = this.replaying;
      this.replaying = null;
      this.change(utterance);
    } else if (this.take === report.take && this.current) {
      this.current.heard(report);
      if (report.kind === "end") this.finish(this.current);
      else this.change(this.current);
    }
  }

  finish(utterance) {
    utterance.silent = true;
    if (this.current === utterance) this.current = null;
    this.dispatchEvent(new CustomEvent("end", { detail: { utterance } }));
    this.change(utterance);
  }

  change(utterance) {
    this.dispatchEvent(new CustomEvent("change", { detail: { utterance } }));
  }

  fail(error) {
    this.dispatchEvent(new CustomEvent("fail", { detail: { error } }));
  }
}
