import { formatBytes } from '@causeway/topology';
import type { Output } from './output.ts';

/** Bytes of something on their way. */
export interface Progress {
  /** So many are there. */
  at(bytes: number): void;
  /** Something worth saying meanwhile. */
  note(text: string): void;
  done(): void;
}

const BAR = 24;
const REDRAW_MS = 100;
const LINE_MS = 5000;

/** A bar that is redrawn on a terminal; elsewhere a line at the start, every tenth or 5 s, whichever is later, and at the end. */
export function createProgress(
  out: Pick<Output, 'write' | 'line'>,
  options: { label: string; total: number; terminal: boolean; now?: () => number },
): Progress {
  const { label, total, terminal, now = () => performance.now() } = options;
  const began = now();
  let first: number | undefined;
  let bytes = 0;
  let drawnAt = Number.NEGATIVE_INFINITY;
  let drawn = -1;
  const share = (): number => (total === 0 ? 1 : bytes / total);
  const text = (): string => {
    const seconds = (now() - began) / 1000;
    const rate = seconds > 0.5 ? (bytes - (first ?? 0)) / seconds : 0;
    const left = rate > 0 && bytes < total ? ` · ${duration((total - bytes) / rate)} left` : '';
    const speed = rate > 0 ? ` · ${formatBytes(rate)}/s` : '';
    return `${String(Math.floor(share() * 100)).padStart(3)} %  ${formatBytes(bytes)} of ${formatBytes(total)}${speed}${left}`;
  };
  const draw = (): void => {
    drawnAt = now();
    drawn = share();
    if (!terminal) return out.line(`  ${label}  ${text()}`);
    const full = Math.round(share() * BAR);
    // Erases the line first (ECMA-48, EL).
    out.write(`\r\u001b[2K  ${label}  ${'█'.repeat(full)}${'░'.repeat(BAR - full)} ${text()}`);
  };
  return {
    at: (there) => {
      first ??= there;
      bytes = there;
      const due = terminal ? now() - drawnAt >= REDRAW_MS : now() - drawnAt >= LINE_MS && share() - drawn >= 0.1;
      if (due) draw();
    },
    note: (said) => out.line(`${terminal ? '\r\u001b[2K' : ''}  ${label}: ${said}`),
    done: () => {
      if (drawn !== share() || !terminal) draw();
      if (terminal) out.line();
    },
  };
}

function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  return whole < 3600
    ? `${Math.floor(whole / 60)} min ${whole % 60} s`
    : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
