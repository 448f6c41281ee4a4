import { ServiceError } from '@causeway/errors';

/** What is wrong with a constraint, without saying yet which field of which API brought it. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError';
  /** It is right in itself, but not supported. */
  readonly unsupported: boolean;

  constructor(message: string, options: { unsupported?: boolean } = {}) {
    super(message);
    this.unsupported = options.unsupported ?? false;
  }

  /** As the refusal of a request's field. */
  toServiceError(field: string): ServiceError {
    const reason = this.unsupported ? 'unsupported_parameter' : 'bad_request';
    return new ServiceError(`'${field}': ${this.message}`, { code: 'invalid_argument', reason, field, cause: this });
  }
}

export function refuse(message: string): never {
  throw new GrammarError(message);
}

export function unsupported(message: string): never {
  throw new GrammarError(message, { unsupported: true });
}
