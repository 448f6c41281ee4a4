/** Sums the samples of one metric that carry all of the labels. */
export type Metrics = (name: string, labels?: Readonly<Record<string, string>>) => number;

/** Reads a process's /metrics. */
export async function scrape(process: { readonly observability: string }): Promise<Metrics> {
  const response = await fetch(`http://${process.observability}/metrics`);
  const lines = (await response.text()).split('\n');
  return (name, labels = {}) => {
    const samples = lines.filter(
      (line) =>
        (line.startsWith(`${name} `) || line.startsWith(`${name}{`)) &&
        Object.entries(labels).every(([label, value]) => line.includes(`${label}="${value}"`)),
    );
    // A counter with labels has no sample before it is first raised, but it is always declared.
    const declared = `# TYPE ${name.replace(/_(sum|count)$/, '')} `;
    if (!lines.some((line) => line.startsWith(declared))) throw new Error(`${process.observability} has no metric ${name}`);
    return samples.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  };
}
