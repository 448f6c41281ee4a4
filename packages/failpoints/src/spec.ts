import { fail } from '@causeway/errors';

/** Places where a failure can be provoked, one per phase of a request. */
export const FAILPOINTS = [
  'reserved',
  'after_frame_k',
  'sent',
  'committed_before_first_token',
  'after_first_token',
  'mid_decode',
  'migrating',
] as const;
export type FailpointName = (typeof FAILPOINTS)[number];

export const FAILPOINT_ACTIONS = ['pause', 'kill', 'error'] as const;
export type FailpointAction = (typeof FAILPOINT_ACTIONS)[number];

export interface ArmedFailpoint {
  name: FailpointName;
  /** Acts on the n-th hit, from 1, once. */
  hit: number;
  action: FailpointAction;
}

const ENTRY = /^([a-z_]+)(?::([1-9]\d{0,8}))?=([a-z]+)$/;

/**
 * Parses `after_frame_k:3=pause,mid_decode:5=kill`; without a count the first hit acts. Empty: none.
 * Throws ServiceError `bad_config` naming the entry, the known names and actions.
 */
export function parseFailpoints(spec: string): ArmedFailpoint[] {
  const entries = spec.split(',').map((entry) => entry.trim());
  return entries
    .filter((entry) => entry !== '')
    .map((entry) => {
      const match = ENTRY.exec(entry);
      const name = FAILPOINTS.find((known) => known === match?.[1]);
      const action = FAILPOINT_ACTIONS.find((known) => known === match?.[3]);
      if (match === null || name === undefined || action === undefined) {
        fail(
          'invalid_argument',
          'bad_config',
          `failpoint ${JSON.stringify(entry.slice(0, 80))} is not NAME[:HIT]=ACTION with NAME one of ${FAILPOINTS.join(', ')} and ACTION one of ${FAILPOINT_ACTIONS.join(', ')}`,
        );
      }
      return { name, hit: Number(match[2] ?? '1'), action };
    });
}
