import type { WorkerToken } from '../attempt/events.ts';
import type { Answer, AnswerOptions } from './answer.ts';
import { KvReport } from './kv-report.ts';
import type { PromptScores } from './prompt-scores.ts';

/**
 * All answers to one prompt. They share what is read once, the prompt's KV, and with it every attempt: its workers, its failures and
 * the report of it. An answer's index among them is what the wire calls its choice.
 */
export class Choices {
  readonly answers: readonly Answer[];
  readonly report = new KvReport();
  /** Set when the prompt's own log-probabilities are wanted: they are told before any answer. */
  readonly scores: PromptScores | undefined;
  /** Incarnations that failed these answers. */
  readonly avoid = new Set<string>();
  /** Attempts that were lost. */
  failures = 0;
  /** performance.now() until which refusals for lack of room are waited out; set at the first. */
  busyUntil: number | undefined;
  /** The last attempt was refused because KV cannot travel now: the next one prefills where it decodes, if the request allows it. */
  kvStuck = false;

  /** At least one answer, equal in options but for their seeds. */
  constructor(answers: readonly [Answer, ...Answer[]], scores?: PromptScores) {
    this.answers = answers;
    this.scores = scores;
  }

  /** Options that all answers share. */
  get shared(): Omit<AnswerOptions, 'sampling' | 'detokenizer'> {
    return (this.answers[0] as Answer).options;
  }

  /** Answers that haven't ended, by choice. */
  get open(): [choice: number, answer: Answer][] {
    return [...this.answers.entries()].filter(([, answer]) => !answer.ended);
  }

  /** Something is to come. */
  get pending(): boolean {
    return this.scores?.told === false || this.open.length > 0;
  }

  /** Tokens given so far, of all answers. */
  get emittedTokens(): number {
    return this.answers.reduce((sum, { emitted }) => sum + emitted.length, 0);
  }

  /** Tokens to have in a slot before an attempt that begins now generates: those of the longest open answer. */
  get prefillTokens(): number {
    return this.shared.promptIds.length + Math.max(0, ...this.open.map(([, { emitted }]) => emitted.length));
  }

  /** Tokens that an open answer may still have. */
  get remainingTokens(): number {
    return Math.max(0, ...this.open.map(([, answer]) => answer.remainingTokens));
  }

  /** Forgets tokens of a lost attempt that were never given. */
  beginAttempt(): void {
    this.kvStuck = false;
    for (const answer of this.answers) answer.beginAttempt();
  }

  /** Takes a token of attempt `current` in; tokens of unknown choices are dropped. */
  offer(token: WorkerToken, current: number): void {
    this.answers[token.choice]?.offer(token, current);
  }

  /** An open answer has tokens, but not the one that is due. */
  get hasGap(): boolean {
    return this.open.some(([, answer]) => answer.hasGap);
  }
}

/** The seed of choice `index`: the request's seed plus index, modulo 2^64. A single request with that seed gives the same tokens. */
export function choiceSeed(seed: bigint, index: number): bigint {
  return BigInt.asUintN(64, seed + BigInt(index));
}
