import { refuse } from '../grammar-error.ts';
import type { Machine } from './machine.ts';

/**
 * Removes what leads nowhere: afterwards every state that can be reached can also be left for the end of its rule, so that
 * whatever was read can always be completed.
 * @throws GrammarError when nothing at all can be read, or a rule begins with itself
 */
export function finish(machine: Machine, root: number): void {
  const alive = aliveStates(machine);
  if (alive[machine.rule(root).start] !== 1) refuse('no document can satisfy it');
  for (let state = 0; state < machine.bytes.length; state++) {
    const triples = machine.bytes[state] as number[];
    machine.bytes[state] = keepTriples(triples, alive);
    machine.empty[state] = (machine.empty[state] ?? []).filter((to) => alive[to] === 1);
    machine.calls[state] = (machine.calls[state] ?? []).filter(
      ({ rule, to }) => alive[to] === 1 && alive[machine.rule(rule).start] === 1,
    );
  }
  refuseLeftRecursion(machine);
}

function keepTriples(triples: readonly number[], alive: Uint8Array): number[] {
  const kept: number[] = [];
  for (let i = 0; i < triples.length; i += 3) {
    const to = triples[i + 2] as number;
    if (alive[to] === 1) kept.push(triples[i] as number, triples[i + 1] as number, to);
  }
  return kept;
}

/** States from which the end of their rule can be reached; a call counts once the called rule can end. */
function aliveStates(machine: Machine): Uint8Array {
  const count = machine.bytes.length;
  const alive = new Uint8Array(count);
  const before: number[][] = Array.from({ length: count }, () => []);
  /** Calls that return to a state; by rule, those that wait for it. */
  const returning: { from: number; rule: number }[][] = Array.from({ length: count }, () => []);
  for (let state = 0; state < count; state++) {
    const triples = machine.bytes[state] as number[];
    for (let i = 2; i < triples.length; i += 3) before[triples[i] as number]?.push(state);
    for (const to of machine.empty[state] as number[]) before[to]?.push(state);
    for (const { rule, to } of machine.calls[state] ?? []) returning[to]?.push({ from: state, rule });
  }
  const ruleOfStart = new Map(machine.rules.map(({ start }, rule) => [start, rule]));
  const waiting = new Map<number, number[]>();
  const work: number[] = [];
  const reach = (state: number): void => {
    if (alive[state] === 1) return;
    alive[state] = 1;
    work.push(state);
  };
  for (const { end } of machine.rules) reach(end);
  for (let state = work.pop(); state !== undefined; state = work.pop()) {
    for (const from of before[state] as number[]) reach(from);
    for (const { from, rule } of returning[state] ?? []) {
      if (alive[machine.rule(rule).start] === 1) reach(from);
      else waiting.set(rule, [...(waiting.get(rule) ?? []), from]);
    }
    const rule = ruleOfStart.get(state);
    if (rule === undefined) continue;
    for (const from of waiting.get(rule) ?? []) reach(from);
    waiting.delete(rule);
  }
  return alive;
}

/** A rule that calls itself before it has read anything could be entered for ever. */
function refuseLeftRecursion(machine: Machine): void {
  const nullable = nullableRules(machine);
  const firsts = machine.rules.map(({ start }) => firstCalls(machine, start, nullable));
  const colour = new Uint8Array(machine.rules.length);
  for (let root = 0; root < machine.rules.length; root++) {
    const path: { rule: number; next: number }[] = [];
    const enter = (rule: number): void => {
      if (colour[rule] === 1) refuse('it refers to itself with nothing in between, so that it says nothing');
      if (colour[rule] === 2) return;
      colour[rule] = 1;
      path.push({ rule, next: 0 });
    };
    enter(root);
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const next = firsts[top.rule]?.[top.next++];
      if (next !== undefined) enter(next);
      else {
        colour[top.rule] = 2;
        path.pop();
      }
    }
  }
}

/** Rules called from a state before a byte is read. */
function firstCalls(machine: Machine, start: number, nullable: ReadonlySet<number>): number[] {
  const calls = new Set<number>();
  for (const state of reachable(machine, start, nullable)) for (const { rule } of machine.calls[state] ?? []) calls.add(rule);
  return [...calls];
}

/** States reached without reading a byte. */
function reachable(machine: Machine, start: number, nullable: ReadonlySet<number>): Set<number> {
  const seen = new Set([start]);
  for (const state of seen) {
    for (const to of machine.empty[state] ?? []) seen.add(to);
    for (const { rule, to } of machine.calls[state] ?? []) if (nullable.has(rule)) seen.add(to);
  }
  return seen;
}

function nullableRules(machine: Machine): Set<number> {
  const nullable = new Set<number>();
  for (let before = -1; before !== nullable.size; ) {
    before = nullable.size;
    machine.rules.forEach(({ start, end }, rule) => {
      if (!nullable.has(rule) && reachable(machine, start, nullable).has(end)) nullable.add(rule);
    });
  }
  return nullable;
}
