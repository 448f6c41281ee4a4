/**
 * Tools with an empty description wherever one is missing. Some templates (Hermes 2 and 3) trim descriptions without asking whether
 * there are any: Python's Jinja makes nothing of nothing, the Jinja here refuses it.
 */
export function describedTools(tools: readonly object[]): readonly object[] {
  return tools.map((tool) => {
    const definition = fieldsOf((tool as { function?: unknown }).function);
    const parameters = fieldsOf(definition['parameters']);
    const properties = Object.entries(fieldsOf(parameters['properties']));
    const described = Object.fromEntries(properties.map(([name, schema]) => [name, withDescription(fieldsOf(schema))]));
    return {
      ...tool,
      function: { ...withDescription(definition), parameters: { ...parameters, properties: described } },
    };
  });
}

type Fields = Readonly<Record<string, unknown>>;

function withDescription(value: Fields): Fields {
  return { ...value, description: value['description'] ?? '' };
}

function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}
