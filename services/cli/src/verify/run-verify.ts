import type { Tokenizer } from '@causeway/model-files';
import type { Precision } from '@causeway/models';
import type { VerifyBackend } from './backend.ts';
import { compareGreedy, type GreedyComparison, largestError, logSoftmaxAt } from './compare.ts';
import type { Golden, LogitsCase, MessagesCase } from './golden.ts';

/** Tolerances; nothing loosens them at run time. */
export const TOLERANCE = {
  /** float32 goldens: largest |logit - reference|. */
  logits: 2e-3,
  /** float32 goldens: greedy tokens must agree where the reference's margin exceeds this. */
  logitsMargin: 1e-3,
  /** message goldens, by precision: as above. */
  messagesMargin: { exact: 0.02, fast: 0.3 } satisfies Record<Precision, number>,
  /** message goldens, by precision: largest |log-probability - reference|; `fast` rounds activations to int8, the reference does not. */
  logprobs: { exact: 5e-4, fast: 1.5 } satisfies Record<Precision, number>,
} as const;

export interface CaseReport {
  name: string;
  greedy: GreedyComparison;
  /** Logits form: largest |logit - reference| of this case. */
  logitError?: number;
  /** Messages form: largest |log-probability - reference| over the reference's five best tokens of every agreed position. */
  logprobError?: number;
  /** Messages form: the rendered and tokenized messages equal the reference's prompt ids. */
  promptIdsEqual?: boolean;
  ok: boolean;
}

export interface VerifyReport {
  backend: string;
  form: Golden['form'];
  precision: Precision;
  cases: CaseReport[];
  /** Teacher-forced positions compared; logits form only. */
  positions: number;
  largestLogitError: number | undefined;
  largestLogprobError: number | undefined;
  /** The largest that this form's error may be. */
  tolerance: number;
  greedyAgreed: number;
  greedyTotal: number;
  ok: boolean;
}

export interface VerifyInput {
  golden: Golden;
  backend: VerifyBackend;
  precision: Precision;
  /** Needed by the messages form. */
  tokenizer: Tokenizer | undefined;
  /** The teacher-forced sequence of the logits form, if there is one. */
  teacherForced: { ids: number[]; logits: (position: number) => Float32Array } | undefined;
  /** Prefix lengths of the teacher-forced sequence to compare; default all. */
  lengths?: readonly number[];
  onCase?: (report: CaseReport, done: number, total: number) => void;
}

/** Runs every case of a golden through a backend and compares. */
export async function runVerify(input: VerifyInput): Promise<VerifyReport> {
  const { golden, backend, precision } = input;
  const cases: CaseReport[] = [];
  const forced = golden.form === 'logits' ? input.teacherForced : undefined;
  const total = golden.cases.length + (forced === undefined ? 0 : 1);
  const add = (report: CaseReport): void => {
    cases.push(report);
    input.onCase?.(report, cases.length, total);
  };
  if (golden.form === 'logits')
    for (const [i, item] of golden.cases.entries()) add(await logitsCase(backend, item, `case ${i + 1}`));
  else for (const [i, item] of golden.cases.entries()) add(await messagesCase(input, item, `case ${i + 1}`));

  let positions = 0;
  if (forced !== undefined) {
    const lengths = input.lengths ?? forced.ids.map((_, i) => i + 1);
    let logitError = 0;
    await backend.rows(forced.ids, lengths, (length, row) => {
      positions++;
      logitError = Math.max(logitError, largestError(row, forced.logits(length - 1)));
    });
    const complete = positions === lengths.length;
    add({
      name: `teacher-forced, ${positions} of ${forced.ids.length} positions`,
      greedy: { agreed: 0, required: 0, total: 0, ok: true },
      logitError,
      ok: complete && logitError <= TOLERANCE.logits,
    });
  }
  return {
    backend: backend.name,
    form: golden.form,
    precision,
    cases,
    positions,
    largestLogitError: largest(cases.map((report) => report.logitError)),
    largestLogprobError: largest(cases.map((report) => report.logprobError)),
    tolerance: golden.form === 'logits' ? TOLERANCE.logits : TOLERANCE.logprobs[precision],
    greedyAgreed: cases.reduce((sum, report) => sum + report.greedy.agreed, 0),
    greedyTotal: cases.reduce((sum, report) => sum + report.greedy.total, 0),
    ok: cases.every((report) => report.ok),
  };
}

async function logitsCase(backend: VerifyBackend, item: LogitsCase, label: string): Promise<CaseReport> {
  const tokens = await backend.greedy(item.prompt, item.greedy.length, true);
  const greedy = compareGreedy(
    tokens.map((token) => token.id),
    item.greedy,
    item.greedy_margin,
    TOLERANCE.logitsMargin,
  );
  const logitError = tokens[0] === undefined ? Number.POSITIVE_INFINITY : largestError(tokens[0].logits, item.last_logits);
  return {
    name: `${label}, prompt of ${item.prompt.length}`,
    greedy,
    logitError,
    ok: greedy.ok && logitError <= TOLERANCE.logits,
  };
}

async function messagesCase(input: VerifyInput, item: MessagesCase, label: string): Promise<CaseReport> {
  const ids = input.tokenizer?.encodeChat(item.messages);
  const promptIdsEqual =
    ids !== undefined && ids.length === item.prompt_ids.length && ids.every((id, i) => id === item.prompt_ids[i]);
  const tokens = await input.backend.greedy(item.prompt_ids, item.greedy_ids.length, false);
  const greedy = compareGreedy(
    tokens.map((token) => token.id),
    item.greedy_ids,
    item.margins,
    TOLERANCE.messagesMargin[input.precision],
  );
  let logprobError = 0;
  // Row i was computed after the tokens before it: it compares as long as those agree.
  for (let i = 0; i <= Math.min(greedy.agreed, tokens.length - 1, item.top5.length - 1); i++) {
    const top = item.top5[i] as [number, number][];
    const computed = logSoftmaxAt(
      tokens[i]?.logits as Float32Array,
      top.map(([id]) => id),
    );
    logprobError = Math.max(logprobError, ...computed.map((value, j) => Math.abs(value - (top[j] as [number, number])[1])));
  }
  return {
    name: `${label}, prompt of ${item.prompt_ids.length}`,
    greedy,
    logprobError,
    promptIdsEqual,
    ok: promptIdsEqual && greedy.ok && logprobError <= TOLERANCE.logprobs[input.precision],
  };
}

function largest(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}
