import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { eventually } from '@causeway/testkit';

export interface Span {
  traceId: string;
  spanId: string;
  parentSpanId: string;
  name: string;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  status: { code?: number };
  attributes: { key: string; value: AttributeValue }[];
  service: string;
}

interface AttributeValue {
  stringValue?: string;
  intValue?: number;
  doubleValue?: number;
  boolValue?: boolean;
}

interface Export {
  resourceSpans: {
    resource: { attributes: { key: string; value: { stringValue: string } }[] };
    scopeSpans: { spans: Omit<Span, 'service'>[] }[];
  }[];
}

/** Takes spans by OTLP/HTTP with JSON, as a collector does. */
export class TraceReceiver implements AsyncDisposable {
  readonly spans: Span[] = [];
  readonly #server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      this.#take(JSON.parse(Buffer.concat(chunks).toString()) as Export);
      response.setHeader('content-type', 'application/json').end('{}');
    });
  });

  /** Opens a free port; gives the endpoint for traces. */
  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1/traces`;
  }

  /** The spans of a trace once there are so many: children end and are sent before the root, or a second later. */
  async traceOf(id: string, count: number): Promise<Span[]> {
    const found = (): Span[] => this.spans.filter(({ traceId }) => traceId === id);
    await eventually(() => Promise.resolve(found().length >= count), { what: `${count} spans of trace ${id}` });
    return found();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #take({ resourceSpans }: Export): void {
    for (const { resource, scopeSpans } of resourceSpans) {
      const service = resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue ?? '';
      for (const scope of scopeSpans) this.spans.push(...scope.spans.map((span) => ({ ...span, service })));
    }
  }
}

/** A span's attribute; undefined when it has none of that name. */
export function attribute(span: Span | undefined, name: string): unknown {
  const value = span?.attributes.find(({ key }) => key === name)?.value;
  return value?.stringValue ?? value?.intValue ?? value?.doubleValue ?? value?.boolValue;
}
