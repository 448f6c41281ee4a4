/**
 * One transfer of a million tokens of DeepSeek-V4's KV between two processes, the NATS server killed and started again in the middle:
 * how long, and how much memory each end needs beyond its pages. Takes minutes.
 *   node tests/bench/long-context.ts [--tokens 1048576] [--name long-context]
 */
import { transferLongContext } from '../long-context/transfer.ts';
import { flag, writeReport } from './bench-report.ts';

const tokens = Number(flag('tokens', '1048576'));
const seen = await transferLongContext(tokens);
console.log(JSON.stringify(seen));
writeReport(flag('name', 'long-context'), {
  command: `node tests/bench/long-context.ts ${process.argv.slice(2).join(' ')}`.trim(),
  peers: {},
  setting: { geometry: 'DeepSeek-V4-Flash, bf16 entries', tokens, codec: 'none' },
  repeats: [seen],
  summary: seen,
});
