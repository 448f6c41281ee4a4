/** Value of an unlabelled or fully named sample; undefined when it isn't there. */
export async function metric(observability: string, name: string): Promise<number | undefined> {
  const response = await fetch(`http://${observability}/metrics`, { signal: AbortSignal.timeout(5_000) });
  const line = (await response.text()).split('\n').find((candidate) => candidate.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length + 1));
}
