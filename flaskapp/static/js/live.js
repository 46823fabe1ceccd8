// Listens for "something changed" and fetches the piece that did. Falls back to asking every few seconds.
import { morph, parse } from "./morph.js";
import { updateRows } from "./rows.js";
import { refreshTimes } from "./times.js";

const gap = 250; // Milliseconds between two fetches of one page; more when the server is slow to answer.
const slow = 5000; // How often a page without a stream asks.

export function startLive() {
  const root = document.querySelector("[data-live]");
  if (root) new LivePage(root).start();
}

class LivePage {
  constructor(root) {
    this.root = root;
    this.sign = document.querySelector("[data-live-sign]");
    this.watched = new Set();
  }

  start() {
    this.listen();
    // Heartbeats and charts move also when no job does.
    setInterval(() => this.due() && this.refresh(), slow);
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.listen()));
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", (event) => event.persisted && this.listen());
  }

  due() {
    return !document.hidden && (!this.isOpen() || "liveSteady" in this.root.dataset);
  }

  isOpen() {
    return this.source?.readyState === EventSource.OPEN;
  }

  ids() {
    return [...this.root.querySelectorAll("[data-watch]")].map((element) => element.dataset.watch);
  }

  listen() {
    if (document.hidden) return;
    this.close();
    const query = new URLSearchParams({ page: this.root.dataset.live });
    this.watched = new Set(this.ids());
    for (const id of [...this.watched].slice(0, 100)) query.append("id", id);
    this.source = new EventSource(`${this.root.dataset.stream}?${query}`);
    this.source.addEventListener("open", () => this.tell("live"));
    this.source.addEventListener("changed", () => this.refresh());
    this.source.addEventListener("error", () => this.lost());
  }

  lost() {
    this.tell("paused");
    if (this.source?.readyState !== EventSource.CLOSED) return; // The browser takes it up again by itself.
    clearTimeout(this.again);
    this.again = setTimeout(() => this.listen(), 6 * slow);
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  async refresh() {
    if (this.busy) {
      this.missed = true;
      return;
    }
    this.busy = true;
    this.missed = false;
    const begun = performance.now();
    try {
      await this.fetch();
    } catch {
      this.tell("paused"); // The network is away; the next event or the next turn tries again.
    }
    setTimeout(() => {
      this.busy = false;
      if (this.missed) this.refresh();
    }, Math.min(3000, Math.max(gap, 3 * (performance.now() - begun))));
  }

  async fetch() {
    const rows = this.root.dataset.live === "jobs";
    const url = new URL(this.root.dataset.fragment, location.href);
    if (rows) for (const id of this.ids().slice(0, 100)) url.searchParams.append("id", id);
    const answer = await fetch(url, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (answer.redirected || answer.status === 401) return location.reload(); // Signed out meanwhile.
    if (!answer.ok) throw new Error(`${answer.status}`);
    const fresh = parse(await answer.text());
    if (rows) updateRows(this.root, fresh);
    else morph(this.root.firstElementChild, fresh.firstElementChild);
    refreshTimes();
    const named = this.root.querySelector("[data-title]");
    if (named) document.title = named.dataset.title;
    document.dispatchEvent(new CustomEvent("live:updated"));
    this.watchNew();
  }

  // A row that came later is watched too, but a busy list does not open a stream per row.
  watchNew() {
    if (this.ids().every((id) => this.watched.has(id)) || this.soon) return;
    this.soon = setTimeout(() => {
      this.soon = null;
      if (this.isOpen()) this.listen();
    }, 3000);
  }

  tell(state) {
    if (!this.sign) return;
    this.sign.dataset.liveSign = state;
    this.sign.lastElementChild.textContent = state === "live" ? "Live" : "Every 5 s";
  }
}
