/** What the way from one sender carries, as its receiver sees it: one meter per sender's incarnation. */
import type { Incarnation } from './subjects.ts';

/** Frames closer than this belong to one busy stretch. */
const BUSY_GAP_MS = 50;
/** A stretch is measured once it is this long: shorter ones show how fast a socket buffer empties, not what the link carries. */
const STRETCH_MS = 15;
const SMOOTHING = 0.3;
const MAX_LINKS = 256;

export class LinkMeter {
  readonly #now: () => number;
  #bandwidth = 0;
  #stretchStart = 0;
  #stretchBytes = 0;
  #lastFrame = Number.NEGATIVE_INFINITY;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Frame bytes per ms while the link was busy; 0 before anything was measured. */
  get bandwidth(): number {
    return this.#bandwidth;
  }

  /** Notes a frame's arrival; gives the time since the one before it, ms, undefined for the first. */
  arrived(frameBytes: number): number | undefined {
    const now = this.#now();
    const gap = now - this.#lastFrame;
    if (gap > BUSY_GAP_MS) {
      this.#stretchStart = now;
      this.#stretchBytes = 0;
    } else {
      this.#stretchBytes += frameBytes;
      const ms = now - this.#stretchStart;
      if (ms >= STRETCH_MS) {
        const rate = this.#stretchBytes / ms;
        this.#bandwidth = this.#bandwidth === 0 ? rate : this.#bandwidth + SMOOTHING * (rate - this.#bandwidth);
        this.#stretchStart = now;
        this.#stretchBytes = 0;
      }
    }
    this.#lastFrame = now;
    return Number.isFinite(gap) ? gap : undefined;
  }
}

/** The meters of an endpoint, the least recently opened forgotten first. */
export class LinkMeters {
  readonly #meters = new Map<string, LinkMeter>();

  of(sender: Incarnation): LinkMeter {
    const key = `${sender.workerId}/${sender.incarnation}`;
    const meter = this.#meters.get(key) ?? new LinkMeter();
    this.#meters.delete(key);
    this.#meters.set(key, meter);
    const oldest = this.#meters.keys().next();
    if (this.#meters.size > MAX_LINKS && oldest.done !== true) this.#meters.delete(oldest.value);
    return meter;
  }
}
