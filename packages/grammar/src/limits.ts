/** Bounds of a constraint, the same in every process: a request gets the same verdict wherever it is compiled. */
export const GRAMMAR_LIMITS = {
  /** UTF-8 bytes of a constraint's text: it travels with the request and is compiled by router and workers. */
  bytes: 65_536,
  /** Nesting of a schema's text. OpenAI allows 10 levels of objects; each takes two or three of these. */
  depth: 64,
  /** Subschemas, counted each time they are used in another place. */
  schemas: 5_000,
  /** Values of all `enum` lists together. */
  enumValues: 5_000,
  /** States of the compiled automaton: about 100 bytes each. */
  states: 100_000,
  /** States of one pattern, after repetitions are written out. */
  patternStates: 20_000,
  /** Steps that compiling the patterns of a constraint may take: half a second or so. */
  work: 1_500_000,
  /** Places in the automaton that computing one mask may visit: half a second or so. */
  maskWork: 1_000_000,
  /** Most items of a list or characters of a string that are counted: a larger maxItems or maxLength counts as this. */
  counted: 10_000,
  /** The same for strings that have a pattern too. */
  countedPattern: 2_000,
  /** Largest `multipleOf`. */
  multipleOf: 1_000,
} as const;

/** Longest token, in bytes, that a mask may allow; longer ones are spelled by shorter ones. */
export const MAX_TOKEN_BYTES = 128;
