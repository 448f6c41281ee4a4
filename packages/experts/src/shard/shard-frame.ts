/** One frame of rows as a shard takes it in: checked against the model and copied out of the message's pair lists. */
import { fail } from '@causeway/errors';
import type { expertV1 } from '@causeway/proto';
import type { ExpertShape } from '@causeway/models';
import { type AnswerMode, PAIR_BYTES, ROW_TYPE_BYTES, type RowType } from '../wire/frame.ts';

export interface ShardFrame {
  id: number;
  layer: number;
  epoch: number;
  rowCount: number;
  /** [rowCount, hidden] in `rowType`: a view of the message. */
  rows: Uint8Array;
  rowType: RowType;
  answers: AnswerMode;
  /** Of each pair. Ascending by expert, then by row. */
  pairRows: Uint32Array;
  pairExperts: Uint32Array;
  pairWeights: Float32Array;
}

/**
 * Checks a frame's sizes and indices. Rows and weights may be any numbers: what isn't finite goes through the experts as it would in
 * the worker, and spoils the answer of its own row alone.
 * @throws ServiceError `malformed_frame` or `bad_request` naming the field.
 */
export function readShardFrame(
  rows: expertV1.Rows,
  body: Uint8Array,
  form: { rowType: RowType; answers: AnswerMode },
  shape: ExpertShape,
): ShardFrame {
  const { id, layer, rows: rowCount, pairs } = rows;
  if (!shape.layers.includes(layer)) {
    bad('rows.layer', `is ${layer}; layers with experts are ${shape.layers[0]} to ${shape.layers.at(-1)}`);
  }
  if (rowCount < 1) bad('rows.rows', 'is 0; a frame has at least one row');
  const most = rowCount * Math.min(shape.expertsPerToken, shape.experts);
  if (pairs < 1 || pairs > most) bad('rows.pairs', `is ${pairs}; ${rowCount} rows have 1 to ${most}`);
  const rowBytes = shape.hidden * ROW_TYPE_BYTES[form.rowType];
  const wanted = rowCount * rowBytes + pairs * PAIR_BYTES;
  if (body.byteLength !== wanted) {
    const parts = `${rowCount} rows of ${shape.hidden} ${form.rowType} and ${pairs} pairs of row, expert and weight`;
    fail('invalid_argument', 'malformed_frame', `body has ${body.byteLength} bytes; ${parts} take ${wanted}`, { field: 'body' });
  }
  const lists = body.slice(rowCount * rowBytes);
  // slice() of a Buffer is a view.
  const own = new Uint8Array(new ArrayBuffer(lists.byteLength));
  own.set(lists);
  const frame: ShardFrame = {
    id,
    layer,
    epoch: Number(rows.epoch),
    rowCount,
    rows: body.subarray(0, rowCount * rowBytes),
    ...form,
    pairRows: new Uint32Array(own.buffer, 0, pairs),
    pairExperts: new Uint32Array(own.buffer, pairs * 4, pairs),
    pairWeights: new Float32Array(own.buffer, pairs * 8, pairs),
  };
  checkPairs(frame, shape);
  return frame;
}

function checkPairs({ pairRows, pairExperts, rowCount }: ShardFrame, shape: ExpertShape): void {
  const perRow = new Uint16Array(rowCount);
  let lastRow = -1;
  let lastExpert = -1;
  for (let pair = 0; pair < pairRows.length; pair++) {
    const row = pairRows[pair] as number;
    const expert = pairExperts[pair] as number;
    if (row >= rowCount) bad('body', `pair ${pair} is of row ${row}; there are ${rowCount}`);
    if (expert >= shape.experts) bad('body', `pair ${pair} is of expert ${expert}; there are ${shape.experts}`);
    if (expert < lastExpert || (expert === lastExpert && row <= lastRow))
      bad('body', `pair ${pair} does not ascend by expert and row`);
    const ofRow = (perRow[row] ?? 0) + 1;
    if (ofRow > shape.expertsPerToken) bad('body', `row ${row} has more than ${shape.expertsPerToken} experts`);
    perRow[row] = ofRow;
    lastRow = row;
    lastExpert = expert;
  }
}

function bad(field: string, message: string): never {
  return fail('invalid_argument', 'bad_request', `${field}: ${message}`, { field });
}
