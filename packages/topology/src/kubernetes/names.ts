/** Names, labels and ports that the manifests of one cluster share. */
import type { Role } from '../schema.ts';

/** In a pod each process has an address of its own, so all use the same ports, as in Compose. */
export const POD_PORTS = {
  rpc: 50_061,
  observability: 9100,
  http: 8000,
  grpc: 50_051,
  nats: 4222,
  monitoring: 8222,
  redis: 6379,
} as const;

/** The Secret that the overlays make of `secrets.env`; these are its keys. */
export const SECRET = 'causeway-secrets';
export const SECRET_KEYS = [
  'CAUSEWAY_NATS_PASSWORD',
  'CAUSEWAY_REDIS_PASSWORD',
  'CAUSEWAY_REDIS_URL',
  'CAUSEWAY_API_KEYS',
] as const;
export type SecretKey = (typeof SECRET_KEYS)[number];

/** The claim that holds the checkpoint, the Job that fills it, and the file that says it is whole. */
export const MODEL = { claim: 'causeway-model', job: 'causeway-model', mount: '/model', complete: '/model/.complete' } as const;

/** The ConfigMap that says which checkpoint is served: its name for clients, and where an overlay's Job fetches it. */
export const MODEL_CONFIG = 'causeway-model';

export const IMAGE = 'causeway';
export const PART_OF = 'app.kubernetes.io/part-of';
export const COMPONENT = 'app.kubernetes.io/component';
export const NAME = 'app.kubernetes.io/name';

export type Component = Role | 'nats' | 'redis' | 'model';

/** What selects the pods of one pool. */
export function poolLabels(name: string, component: Component): Record<string, string> {
  return { [PART_OF]: 'causeway', [NAME]: name, [COMPONENT]: component };
}

/** What selects all pods of one kind. */
export function componentLabels(component: Component): Record<string, string> {
  return { [PART_OF]: 'causeway', [COMPONENT]: component };
}

/** A container's variable that comes from the Secret. */
export function fromSecret(key: SecretKey, optional = false): object {
  return { name: key, valueFrom: { secretKeyRef: { name: SECRET, key, ...(optional ? { optional: true } : {}) } } };
}

/** A container that may write nothing but /tmp and has no rights. */
export const CONTAINER_SECURITY = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
} as const;

export function podSecurity(user: number): object {
  return { runAsNonRoot: true, runAsUser: user, runAsGroup: user, fsGroup: user, seccompProfile: { type: 'RuntimeDefault' } };
}
