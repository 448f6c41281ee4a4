import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fail } from '@causeway/errors';
import {
  modelsOf,
  renderCompose,
  renderComposeNats,
  renderDashboards,
  renderKubernetes,
  renderPrometheus,
  type Topology,
} from '@causeway/topology';
import { chooseModels } from '../cluster/load-topology.ts';
import type { CliConfig } from '../config.ts';
import { modelPlaces } from '../models/model-places.ts';
import { pullableName } from '../models/pull.ts';
import { REPOSITORY } from '../paths.ts';
import { makeSecrets } from './secrets.ts';
import type { Output } from '../terminal/output.ts';

/** Writes, or with `check` compares, every deployment file that follows from a topology. Exit code 1 when one is not up to date. */
export async function composeRender(
  options: { topology: string | undefined; check: boolean },
  deps: { out: Output; config: CliConfig },
): Promise<number> {
  // What containers mount has to be here already.
  const { topology: whole, models } = await chooseModels([], options.topology, modelPlaces(deps.config), (wanted) =>
    fail(
      'failed_precondition',
      'bad_config',
      `${pullableName(wanted)} is not here: ./causeway models pull ${pullableName(wanted)}`,
    ),
  );
  const topology = withoutOptional(whole);
  const unfit = unfitForKubernetes(topology);
  const files: [string, string][] = [
    [
      'docker-compose.yml',
      renderCompose(topology, new Map([...models].map(([word, { name, path }]) => [word, { name, path: fromHere(path) }]))),
    ],
    ['deploy/prometheus/prometheus.yml', renderPrometheus(topology)],
    ['deploy/nats/nats.conf', renderComposeNats(topology)],
    ...[...renderDashboards()].map(([name, text]): [string, string] => [`deploy/grafana/dashboards/${name}`, text]),
    ...[...(unfit === undefined ? renderKubernetes(topology, ruleFiles()) : [])].map(([name, text]): [string, string] => [
      `deploy/kubernetes/${name}`,
      text,
    ]),
  ];
  if (unfit !== undefined) deps.out.line(`the Kubernetes manifests ${unfit}: they are left as they are`);
  let stale = 0;
  for (const [name, text] of files) {
    const path = join(REPOSITORY, name);
    if (readOrEmpty(path) === text) continue;
    stale += 1;
    if (!options.check) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    }
    deps.out.line(options.check ? `${name} is not what the topology says: run ./causeway compose` : `wrote ${name}`);
  }
  if (!options.check) for (const name of makeSecrets()) deps.out.line(`wrote ${name}, with new passwords`);
  if (stale === 0) deps.out.line('the deployment files are up to date');
  return options.check && stale > 0 ? 1 : 0;
}

/** Nobody can look here what there will be where containers run. */
function withoutOptional(topology: Topology): Topology {
  return { ...topology, pools: topology.pools.filter((pool) => !('optional' in pool && pool.optional === true)) };
}

/** What of this topology the manifests don't know yet. */
function unfitForKubernetes(topology: Topology): string | undefined {
  if (modelsOf(topology).length > 1) return 'serve one model';
  const templated = topology.pools.some((pool) => pool.role === 'router' && pool.chatTemplate !== undefined);
  return templated ? 'have no chatTemplate (put chat_template.jinja beside the checkpoint instead)' : undefined;
}

/** deploy/prometheus/rules, written by hand: Compose mounts them, Kubernetes gets them as objects. */
function ruleFiles(): Map<string, string> {
  const folder = join(REPOSITORY, 'deploy/prometheus/rules');
  return new Map(
    readdirSync(folder)
      .toSorted()
      .map((name) => [name, readFileSync(join(folder, name), 'utf8')]),
  );
}

/** A path as docker-compose.yml has it: inside the checkout relative to it. */
function fromHere(path: string): string {
  const inside = relative(REPOSITORY, path);
  return inside.startsWith('..') || inside.startsWith('/') ? path : `./${inside}`;
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
