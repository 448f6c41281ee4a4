/** One streamed completion over HTTP, with the moment of each of its tokens. */

/** Milliseconds of the clock that all processes of the machine share. */
export const clockMs = (): number => Number(process.hrtime.bigint()) / 1e6;

export interface StreamedAnswer {
  requestId: string;
  startMs: number;
  /** When each event with text came. */
  times: number[];
  usage: { completion_tokens: number; causeway: { handoff_gap_ms: number; outcome: string } };
}

/**
 * Streams `/v1/completions` of `host:port`. `onToken` is called at each event with text.
 * @throws Error with the body of a refusal, or when the stream has no usage.
 */
export async function streamAnswer(
  http: string,
  body: object,
  o: { signal?: AbortSignal; onToken?: () => void } = {},
): Promise<StreamedAnswer> {
  const startMs = clockMs();
  const response = await fetch(`http://${http}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, stream: true }),
    ...(o.signal === undefined ? {} : { signal: o.signal }),
  });
  if (!response.ok || response.body === null) throw new Error(await response.text());
  const times: number[] = [];
  let usage: StreamedAnswer['usage'] | undefined;
  let rest = '';
  const text = new TextDecoder();
  for await (const bytes of response.body) {
    const now = clockMs();
    const events = (rest + text.decode(bytes, { stream: true })).split('\n\n');
    rest = events.pop() ?? '';
    for (const event of events) {
      if (!event.startsWith('data: {')) continue;
      const chunk = JSON.parse(event.slice(6)) as { choices: { text: string }[]; usage?: StreamedAnswer['usage'] | null };
      usage = chunk.usage ?? usage;
      if ((chunk.choices[0]?.text ?? '') === '') continue;
      times.push(now);
      o.onToken?.();
    }
  }
  if (usage === undefined) throw new Error('the stream had no usage');
  return { requestId: response.headers.get('x-causeway-request-id') ?? '', startMs, times, usage };
}
