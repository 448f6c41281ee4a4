/** Faults put in on purpose: the model checker has to find each of them. */
import type { PagePool } from '@causeway/kv';
import { PageSet } from '@causeway/kv';

export type Mutation =
  | 'epochs ignored'
  | 'holds ignored'
  | 'holds never given back'
  | 'pages given back twice'
  | 'committed before written'
  | 'committed before converted';

const NOTHING: Disposable = { [Symbol.dispose]: () => undefined };

/** The pool, with the fault if it is one of pages. */
export function mutatedPool(pool: PagePool, mutation: Mutation | undefined): PagePool {
  const reserve = pool.reserve.bind(pool);
  switch (mutation) {
    case 'holds ignored':
      pool.reserve = (pages) => withHold(reserve(pages), () => NOTHING);
      break;
    case 'holds never given back':
      pool.reserve = (pages) =>
        withHold(reserve(pages), (hold) => {
          hold();
          return NOTHING;
        });
      break;
    case 'pages given back twice':
      return givingBackTwice(pool);
    default:
  }
  return pool;
}

function withHold(set: PageSet | undefined, hold: (real: () => Disposable) => Disposable): PageSet | undefined {
  if (set === undefined) return undefined;
  const real = set.hold.bind(set);
  set.hold = () => hold(real);
  return set;
}

/** A pool whose sets are given back with their end, and once more: the second time their pages go to whoever asks next. */
function givingBackTwice(pool: PagePool): PagePool {
  const reserve = pool.reserve.bind(pool);
  const again: number[] = [];
  let epoch = 1_000_000;
  pool.reserve = (count) => {
    if (again.length >= count) {
      return new PageSet({ take: () => undefined, give: () => undefined }, again.splice(0, count), ++epoch);
    }
    const set = reserve(count);
    if (set === undefined) return undefined;
    const dispose = set[Symbol.dispose].bind(set);
    set[Symbol.dispose] = () => {
      if (set.state !== 'released') again.push(...set.pages);
      dispose();
    };
    return set;
  };
  return pool;
}
