/** NATS, Redis, and the claim and Job of the model. */
import { componentLabels, CONTAINER_SECURITY, fromSecret, IMAGE, MODEL, podSecurity, POD_PORTS, poolLabels } from './names.ts';

/** Images of other projects; overlays may name mirrors. */
export const SERVER_IMAGES = { nats: 'nats:2.10-alpine', redis: 'redis:7-alpine' } as const;

/** nats-server with the generated configuration, and its Service. One replica: nothing is stored, transfers resume. */
export function natsManifests(): object[] {
  return server('nats', {
    image: SERVER_IMAGES.nats,
    args: ['-c', '/etc/causeway/nats.conf'],
    env: [fromSecret('CAUSEWAY_NATS_PASSWORD')],
    memory: '512Mi',
    mounts: [{ name: 'config', mountPath: '/etc/causeway', readOnly: true }],
    volumes: [{ name: 'config', configMap: { name: 'nats-config' } }],
  });
}

/** redis-server that keeps nothing on disk: workers register again within a heartbeat. */
export function redisManifests(): object[] {
  return server('redis', {
    image: SERVER_IMAGES.redis,
    args: ['redis-server', '--save', '', '--appendonly', 'no', '--requirepass', '$(CAUSEWAY_REDIS_PASSWORD)'],
    env: [fromSecret('CAUSEWAY_REDIS_PASSWORD')],
    memory: '256Mi',
    mounts: [],
    volumes: [],
  });
}

interface Server {
  image: string;
  args: readonly string[];
  env: readonly object[];
  memory: string;
  mounts: readonly object[];
  volumes: readonly object[];
}

function server(name: 'nats' | 'redis', of: Server): object[] {
  const labels = poolLabels(name, name);
  const ports = { nats: ['nats', 'monitoring'], redis: ['redis'] } as const;
  const alive = { tcpSocket: { port: name } };
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, labels },
      spec: { selector: labels, ports: ports[name].map((port) => ({ name: port, port: POD_PORTS[port], targetPort: port })) },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name, labels },
      spec: {
        replicas: 1,
        strategy: { type: 'Recreate' },
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            serviceAccountName: `causeway-${name}`,
            automountServiceAccountToken: false,
            // Processes of ours end before: they drain on SIGTERM.
            terminationGracePeriodSeconds: 60,
            securityContext: podSecurity(1000),
            containers: [
              {
                name,
                image: of.image,
                args: of.args,
                env: of.env,
                ports: ports[name].map((port) => ({ name: port, containerPort: POD_PORTS[port] })),
                readinessProbe: { ...alive, periodSeconds: 2 },
                livenessProbe: { ...alive, periodSeconds: 10, failureThreshold: 6 },
                securityContext: CONTAINER_SECURITY,
                resources: { requests: { cpu: '250m', memory: of.memory }, limits: { memory: of.memory } },
                volumeMounts: [{ name: 'tmp', mountPath: '/tmp' }, ...of.mounts],
              },
            ],
            volumes: [{ name: 'tmp', emptyDir: { sizeLimit: '64Mi' } }, ...of.volumes],
          },
        },
      },
    },
  ];
}

/** The claim, and the Job that copies the built-in model from the image into it. Overlays fetch another one instead. */
export function modelManifests(): object[] {
  const labels = poolLabels('model', 'model');
  return [
    {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: MODEL.claim, labels },
      spec: { accessModes: ['ReadWriteMany'], resources: { requests: { storage: '20Gi' } } },
    },
    {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: MODEL.job, labels },
      spec: {
        backoffLimit: 6,
        template: {
          metadata: { labels: componentLabels('model') },
          spec: {
            serviceAccountName: 'causeway-model',
            automountServiceAccountToken: false,
            restartPolicy: 'OnFailure',
            securityContext: podSecurity(1000),
            containers: [
              {
                name: 'pull',
                image: IMAGE,
                command: ['sh', '-eu', '-c', COPY_BUILT_IN],
                securityContext: CONTAINER_SECURITY,
                resources: { requests: { cpu: '100m', memory: '64Mi' }, limits: { memory: '512Mi' } },
                volumeMounts: [{ name: 'model', mountPath: MODEL.mount }],
              },
            ],
            volumes: [{ name: 'model', persistentVolumeClaim: { claimName: MODEL.claim } }],
          },
        },
      },
    },
  ];
}

const COPY_BUILT_IN = `[ -e ${MODEL.complete} ] && exit
cp /app/models/tiny-moe/* ${MODEL.mount}/
touch ${MODEL.complete}
`;

/**
 * Fetches the files of a checkpoint, each gone on with where it was cut; checks their sums when there are any. curl's exit code 22 is an
 * answer of the server's (404, 403): trying again doesn't help, unless it was the part that lies here that the server couldn't go on with.
 */
export const FETCH_MODEL = `[ -e "$MODEL_DIR/.complete" ] && exit
cd "$MODEL_DIR"
for file in $MODEL_FILES; do
  [ -e "$file" ] && continue
  echo "fetching $MODEL_URL/$file"
  tries=0
  until curl --fail --location --silent --show-error --retry 5 --continue-at - --output "$file.partial" "$MODEL_URL/$file"; do
    code=$?
    tries=$((tries + 1))
    if [ "$code" -eq 22 ] && [ -s "$file.partial" ]; then rm "$file.partial"
    elif [ "$code" -eq 22 ] || [ "$tries" -ge 8 ]; then
      echo "cannot fetch $MODEL_URL/$file (curl exit code $code): correct MODEL_URL and MODEL_FILES in model.env" >&2
      exit "$code"
    fi
    sleep 1
  done
  mv "$file.partial" "$file"
done
if [ -n "\${MODEL_SHA256:-}" ] && ! echo "$MODEL_SHA256" | sha256sum -c -; then
  echo 'a file is not what MODEL_SHA256 says; all are fetched again' >&2
  rm -f $MODEL_FILES
  exit 1
fi
touch .complete
`;
