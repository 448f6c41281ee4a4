import { type MemoryRun, type PageSet, type Segment, sliceSegments, type WireMemory } from '@causeway/kv';
import type { PartLocation, PartTable } from './part-table.ts';

/** A part's raw bytes in memory, in wire order, and the size of its numbers. */
export interface RawPart {
  raw: MemoryRun[];
  elementBytes: 1 | 2 | 4;
}

/** Where the parts of a transfer lie in this worker's memory: asks how it keeps objects, once per object in a row. */
export class ObjectRuns {
  readonly #table: PartTable;
  readonly #pages: PageSet;
  readonly #memory: WireMemory;
  #last: { object: number; segments: readonly Segment[] } | undefined;

  constructor(o: { table: PartTable; pages: PageSet; memory: WireMemory }) {
    this.#table = o.table;
    this.#pages = o.pages;
    this.#memory = o.memory;
  }

  of(part: PartLocation): RawPart {
    if (this.#last?.object !== part.object) {
      this.#last = { object: part.object, segments: this.#memory.places.segments(this.#table.object(part)) };
    }
    const segments = sliceSegments(this.#last.segments, part.objectOffset, part.length);
    return {
      raw: segments.map((run) => this.#memory.pageRun(this.#pages, run)),
      elementBytes: this.#table.elementBytes(part),
    };
  }
}
