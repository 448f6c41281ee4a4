import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { renderCompose, renderComposeNats, renderDashboards, renderKubernetes, renderPrometheus } from '@causeway/topology';
import { loadTopology } from '../cluster/load-topology.ts';
import { REPOSITORY } from '../paths.ts';
import { makeSecrets } from './secrets.ts';
import type { Output } from '../terminal/output.ts';

/** Writes, or with `check` compares, every deployment file that follows from a topology. Exit code 1 when one is not up to date. */
export async function composeRender(
  options: { topology: string | undefined; check: boolean },
  deps: { out: Output },
): Promise<number> {
  const topology = loadTopology(options.topology);
  const files: [string, string][] = [
    ['docker-compose.yml', renderCompose(topology)],
    ['deploy/prometheus/prometheus.yml', renderPrometheus(topology)],
    ['deploy/nats/nats.conf', renderComposeNats(topology)],
    ...[...renderDashboards()].map(([name, text]): [string, string] => [`deploy/grafana/dashboards/${name}`, text]),
    ...[...renderKubernetes(topology, ruleFiles())].map(([name, text]): [string, string] => [`deploy/kubernetes/${name}`, text]),
  ];
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

/** deploy/prometheus/rules, written by hand: Compose mounts them, Kubernetes gets them as objects. */
function ruleFiles(): Map<string, string> {
  const folder = join(REPOSITORY, 'deploy/prometheus/rules');
  return new Map(
    readdirSync(folder)
      .toSorted()
      .map((name) => [name, readFileSync(join(folder, name), 'utf8')]),
  );
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
