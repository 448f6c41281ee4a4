import { chipFamily, chipStorage } from '@causeway/chips';
import { fail } from '@causeway/errors';
import { isNode, LineCounter, parseDocument } from 'yaml';
import { modelOf, modelsOf } from './models.ts';
import { type ComputePool, type ExpertPool, type Pool, topologySchema, type Topology } from './schema.ts';

/** A file larger than this is not a topology. */
const MAX_TEXT = 1_048_576;

interface Problem {
  path: readonly PropertyKey[];
  message: string;
}

/**
 * Reads a topology file's text. Every problem is reported at once, with line and field; ServiceError `bad_config`.
 * @param source name of the file, for messages
 */
export function parseTopology(text: string, source: string): Topology {
  if (text.length > MAX_TEXT) fail('invalid_argument', 'bad_config', `${source} is larger than 1 MiB: not a topology file`);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false });
  if (document.errors.length > 0) {
    const list = document.errors.map((error) => `  line ${lines.linePos(error.pos[0]).line}: ${error.message}`);
    fail('invalid_argument', 'bad_config', `${source} is not YAML:\n${list.join('\n')}`);
  }
  // An alias bomb stops at yaml's own maxAliasCount (100) with an exception.
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    fail('invalid_argument', 'bad_config', `${source} is not usable YAML: ${(error as Error).message}`, { cause: error });
  }
  const lineOf = (path: readonly PropertyKey[]): number | undefined => {
    for (let length = path.length; length >= 0; length -= 1) {
      const node = document.getIn(path.slice(0, length), true);
      if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
    }
    return undefined;
  };
  const report = (problems: readonly Problem[]): never => {
    const list = problems.map((problem) => {
      const line = lineOf(problem.path);
      return `  ${line === undefined ? '' : `line ${line}, `}${fieldName(problem.path)}: ${problem.message}`;
    });
    return fail(
      'invalid_argument',
      'bad_config',
      `${source} has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${list.join('\n')}`,
    );
  };
  const result = topologySchema.safeParse(value ?? {});
  if (!result.success) {
    return report(
      result.error.issues.flatMap((issue): Problem[] => {
        if (issue.code === 'unrecognized_keys') {
          return issue.keys.map((key) => ({ path: [...issue.path, key], message: 'is not a known field' }));
        }
        return [{ path: issue.path, message: issue.message }];
      }),
    );
  }
  const problems = checkTopology(result.data);
  if (problems.length > 0) report(problems);
  return result.data;
}

/** Rules that span fields: unique names, answers of each model can be written, threads or cores but not both, KV as the chip stores it. */
function checkTopology(topology: Topology): Problem[] {
  const problems: Problem[] = [];
  const names = new Map<string, number>();
  topology.pools.forEach((pool, index) => {
    const path = ['pools', index];
    const earlier = names.get(pool.name);
    if (earlier !== undefined)
      problems.push({ path: [...path, 'name'], message: `"${pool.name}" is also the name of pools[${earlier}]` });
    names.set(pool.name, index);
    if (RESERVED.has(pool.name))
      problems.push({ path: [...path, 'name'], message: `"${pool.name}" is reserved for the server of that name` });
    if (pool.role !== 'router') problems.push(...checkComputePool(pool, path));
  });
  problems.push(...checkExperts(topology));
  for (const [index, pool] of topology.pools.entries()) {
    // `d` with two processes runs `d-0` and `d-1`.
    const owner = topology.pools.find((other) => other !== pool && other.count > 1 && numbered(other).has(pool.name));
    if (owner !== undefined) {
      problems.push({
        path: ['pools', index, 'name'],
        message: `"${pool.name}" is also the name of a process of pool "${owner.name}"`,
      });
    }
  }
  problems.push(...checkDecoded(topology), ...checkChatTemplates(topology));
  return problems;
}

/** Answers are written by decode workers, of each model. */
function checkDecoded(topology: Topology): Problem[] {
  const decoded = new Set(
    topology.pools.flatMap((pool) => (pool.role === 'decode' && pool.optional !== true ? [modelOf(topology, pool)] : [])),
  );
  if (decoded.size === 0)
    return [{ path: ['pools'], message: 'there is no pool with role decode that is not optional: nothing could write answers' }];
  return topology.pools.flatMap((pool, index): Problem[] => {
    if (pool.role !== 'prefill' || decoded.has(modelOf(topology, pool))) return [];
    const message = `"${modelOf(topology, pool)}" has no pool with role decode: nothing could write its answers`;
    return [{ path: ['pools', index, ...(pool.model === undefined ? [] : ['model'])], message }];
  });
}

/** A chat template is one model's. */
function checkChatTemplates(topology: Topology): Problem[] {
  const models = modelsOf(topology);
  if (models.length < 2) return [];
  const message = `is the template of one model, and the pools serve ${models.length}`;
  return topology.pools.flatMap((pool, index): Problem[] =>
    pool.role === 'router' && pool.chatTemplate !== undefined ? [{ path: ['pools', index, 'chatTemplate'], message }] : [],
  );
}

function numbered(pool: Pool): Set<string> {
  return new Set(Array.from({ length: pool.count }, (_, index) => `${pool.name}-${index}`));
}

const RESERVED = new Set(['nats', 'redis', 'prometheus', 'grafana', 'load', 'jaeger', 'model', 'up']);

/** Settings of experts that are the whole cluster's. */
const SHARED_EXPERT_FIELDS = ['copies', 'hotCopies', 'mode', 'rows', 'wait'] as const satisfies readonly (keyof ExpertPool)[];

/** Expert pools that say the same of what is the cluster's; experts computed with the precision of everything else. */
function checkExperts(topology: Topology): Problem[] {
  const problems: Problem[] = [];
  const first = topology.pools.find((pool) => pool.role === 'expert');
  if (first === undefined) return problems;
  for (const [index, pool] of topology.pools.entries()) {
    if (pool.role === 'router') continue;
    if ((pool.precision ?? 'fast') !== (first.precision ?? 'fast')) {
      const message = `is ${pool.precision ?? 'fast'} where pool "${first.name}" has ${first.precision ?? 'fast'}: experts and workers have one`;
      problems.push({ path: ['pools', index, 'precision'], message });
    }
    if (pool.role !== 'expert') continue;
    for (const field of SHARED_EXPERT_FIELDS) {
      if (pool[field] === first[field]) continue;
      const message = `differs from pool "${first.name}": it is the whole cluster's`;
      problems.push({ path: ['pools', index, field], message });
    }
  }
  return problems;
}

function checkComputePool(pool: ComputePool, path: PropertyKey[]): Problem[] {
  const problems: Problem[] = [];
  if (pool.cores !== undefined && pool.threads !== undefined && pool.threads !== 'auto') {
    problems.push({
      path: [...path, 'threads'],
      message: 'stands beside cores: give one of them (threads then follow the cores)',
    });
  }
  if (pool.cores !== undefined && pool.cores.length < pool.count) {
    problems.push({ path: [...path, 'cores'], message: `lists ${pool.cores.length} cores for ${pool.count} processes` });
  }
  if (pool.role === 'expert') return problems;
  for (const [field, choice] of [
    ['kvDtype', { dtype: pool.kvDtype }],
    ['blockTokens', { blockTokens: pool.blockTokens }],
  ] as const) {
    try {
      chipStorage(chipFamily(pool.chip), choice);
    } catch (error) {
      problems.push({ path: [...path, field], message: (error as Error).message });
    }
  }
  return problems;
}

function fieldName(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'the file';
  return path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`))
    .join('');
}
