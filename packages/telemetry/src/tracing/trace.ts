/** Values of OpenTelemetry's attributes; undefined ones are left out. */
export type Attributes = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

/**
 * A span of a request's trace. Times are those of `performance.now()`. While no exporter is set, all of this does nothing.
 * Disposing ends it.
 */
export interface TraceSpan extends Disposable {
  /** The request is traced: what costs something to find out is worth it. */
  readonly recording: boolean;
  /** Begins a span under this one. */
  child(name: string, attributes?: Attributes, startedAt?: number): TraceSpan;
  /** A span under this one that is over already. */
  record(name: string, startedAt: number, endedAt: number, attributes?: Attributes): void;
  set(attributes: Attributes): void;
  /** Marks the span as failed. */
  failed(error: Error): void;
  /** Ends it; later calls do nothing. */
  end(): void;
  /** What another process needs to go on with the trace: W3C `traceparent` and `tracestate`, in lower case. */
  headers(): Readonly<Record<string, string>>;
}

/** Which process began the trace, as its headers say it; malformed headers begin a new trace. */
export type TraceHeaders = (name: 'traceparent' | 'tracestate') => string | undefined;

/** Where spans come from and go to. */
export interface TraceBackend {
  /** A server's span of a request that came in. */
  begin(name: string, headers: TraceHeaders, attributes?: Attributes): TraceSpan;
}

const NO_SPAN: TraceSpan = {
  recording: false,
  child: () => NO_SPAN,
  record: () => undefined,
  set: () => undefined,
  failed: () => undefined,
  end: () => undefined,
  headers: () => ({}),
  [Symbol.dispose]: () => undefined,
};

/** The process's traces: a request's spans begin here. */
export const NO_TRACES: TraceBackend = { begin: () => NO_SPAN };
