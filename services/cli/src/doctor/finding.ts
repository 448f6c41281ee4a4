/** What a check found: `problem` keeps Causeway from working, `warning` will hurt. */
export interface Finding {
  level: 'ok' | 'warning' | 'problem';
  /** What was looked at. */
  what: string;
  /** What it is. */
  found: string;
  /** What to do; absent when it is fine. */
  todo?: string;
}

export function ok(what: string, found: string): Finding {
  return { level: 'ok', what, found };
}

export function warning(what: string, found: string, todo: string): Finding {
  return { level: 'warning', what, found, todo };
}

export function problem(what: string, found: string, todo: string): Finding {
  return { level: 'problem', what, found, todo };
}
