/** The failure table: which failure meets a request where. */
import { FAILPOINTS, type FailpointName } from '@causeway/failpoints';

export const VICTIMS = ['router', 'prefill', 'decode', 'nats', 'redis'] as const;
export type Victim = (typeof VICTIMS)[number];

export const SIGNALS = ['KILL', 'STOP'] as const;
export type Signal = (typeof SIGNALS)[number];

/** One failure of the table and the request that meets it. */
export interface Cell {
  readonly name: string;
  readonly phase: FailpointName;
  readonly victim: Victim;
  readonly signal: Signal;
  /** The router's way to continue a broken answer. */
  readonly recovery: 'fast' | 'exact';
  /** 0 is greedy; otherwise the seed is fixed. */
  readonly temperature: number;
  readonly api: 'grpc' | 'http';
  /** A second worker of the victim's role is there (at `migrating`: of decode). Without it the answer waits for the victim's return. */
  readonly spare: boolean;
}

/** The processes that pass a failpoint, and how they are armed. */
export interface Arming {
  readonly process: 'router' | 'prefill' | 'decode';
  readonly spec: string;
}

/** Tokens after the first that the client has when `mid_decode` pauses. */
const MID_ANSWER = 8;

export const ARMING: Readonly<Record<FailpointName, Arming>> = {
  reserved: { process: 'router', spec: 'reserved=pause' },
  // The prompt takes some 25 frames: the seventh leaves while later chunks are still computed.
  after_frame_k: { process: 'prefill', spec: 'after_frame_k:7=pause' },
  sent: { process: 'prefill', spec: 'sent=pause' },
  committed_before_first_token: { process: 'decode', spec: 'committed_before_first_token=pause' },
  after_first_token: { process: 'router', spec: 'after_first_token=pause' },
  mid_decode: { process: 'router', spec: `mid_decode:${MID_ANSWER}=pause` },
  // Reached by killing the decode worker at mid_decode.
  migrating: { process: 'router', spec: `mid_decode:${MID_ANSWER}=pause,migrating=pause` },
};

/** Tokens that the client must have when its request waits at a failpoint of the router. */
export const TOKENS_BY: Partial<Readonly<Record<FailpointName, number>>> = {
  after_first_token: 1,
  mid_decode: MID_ANSWER + 1,
  migrating: MID_ANSWER + 1,
};

/** Every phase x victim x signal; recovery, sampling, API and spares take turns so that each meets every phase and victim. */
export const CELLS: readonly Cell[] = FAILPOINTS.flatMap((phase, p) =>
  VICTIMS.flatMap((victim, v) =>
    SIGNALS.map((signal, s) => ({
      name: `${phase} x ${victim} x ${signal}`,
      phase,
      victim,
      signal,
      recovery: (p + v) % 3 === 0 ? ('fast' as const) : ('exact' as const),
      temperature: (v + s) % 2 === 0 ? 0 : 0.3,
      api: (p + v + s) % 3 === 2 ? ('http' as const) : ('grpc' as const),
      spare: phase === 'migrating' || ((victim === 'prefill' || victim === 'decode') && (p + s) % 2 === 0),
    })),
  ),
);

/** One signal for every phase and victim, each in turn: half of the table, which the shorter run of the tests has time for. */
export const EVERY_OTHER_CELL: readonly Cell[] = CELLS.filter(
  ({ phase, victim, signal }) => (FAILPOINTS.indexOf(phase) + VICTIMS.indexOf(victim) + SIGNALS.indexOf(signal)) % 2 === 0,
);

/** Role of which a cell has two workers. */
export function spareRole(cell: Cell): 'prefill' | 'decode' | undefined {
  if (!cell.spare) return undefined;
  return cell.phase !== 'migrating' && cell.victim === 'prefill' ? 'prefill' : 'decode';
}
