/** What the overlays add to the base: `local` for one node, `islands` for pools on different chips. */
import { MODEL, MODEL_CONFIG, poolLabels } from './names.ts';
import type { PodPool } from './pools.ts';
import { FETCH_MODEL } from './servers.ts';

/** How a cluster offers a family's devices: the device plug-in's resource, the label and the taint of its nodes. */
export interface DeviceNodes {
  resource: string;
  label: Readonly<Record<string, string>>;
  taint: string;
}

/** By chip family: NVIDIA's, Huawei's and Cambricon's device plug-ins. */
export const DEVICES: Readonly<Record<string, DeviceNodes>> = {
  nvidia: { resource: 'nvidia.com/gpu', label: { 'nvidia.com/gpu.present': 'true' }, taint: 'nvidia.com/gpu' },
  ascend: { resource: 'huawei.com/Ascend910', label: { accelerator: 'huawei-Ascend910' }, taint: 'huawei.com/Ascend910' },
  cambricon: { resource: 'cambricon.com/mlu', label: { accelerator: 'cambricon-mlu' }, taint: 'cambricon.com/mlu' },
};

/** One node: a claim that one node writes, and small requests. */
export function localPatches(pools: readonly PodPool[]): object[] {
  return [
    {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: MODEL.claim },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
    },
    ...pools.map((pool) =>
      patch(pool, { containers: [{ name: pool.role, resources: { requests: { cpu: '100m', memory: '256Mi' } } }] }),
    ),
  ];
}

/** Binds a worker pool to the nodes of a chip family; a device for each pod. */
export function devicePatch(pool: PodPool, devices: DeviceNodes, env: Readonly<Record<string, string>>): object {
  const device = { [devices.resource]: '1' };
  return patch(pool, {
    nodeSelector: devices.label,
    tolerations: [{ key: devices.taint, operator: 'Exists', effect: 'NoSchedule' }],
    containers: [
      {
        name: pool.role,
        ...(Object.keys(env).length === 0 ? {} : { env: Object.entries(env).map(([name, value]) => ({ name, value })) }),
        resources: { requests: device, limits: device },
      },
    ],
  });
}

/** Patches the model's Job: fetches a checkpoint by HTTPS, as `model.env` says. */
export function fetchPatch(image: string): object {
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: MODEL.job },
    spec: {
      template: {
        spec: {
          containers: [
            {
              name: 'pull',
              image,
              command: ['sh', '-eu', '-c', FETCH_MODEL],
              env: [{ name: 'MODEL_DIR', value: MODEL.mount }],
              envFrom: [{ configMapRef: { name: MODEL_CONFIG } }],
            },
          ],
        },
      },
    },
  };
}

function patch(pool: PodPool, spec: object): object {
  return {
    apiVersion: 'apps/v1',
    kind: pool.role === 'router' ? 'Deployment' : 'StatefulSet',
    metadata: { name: pool.name, labels: poolLabels(pool.name, pool.role) },
    spec: { template: { spec } },
  };
}
