import { tokenizePrompt } from '../prompt.ts';
import type { TokensKind } from '../request/request.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { failed } from './serve.ts';

/** Answers a request about tokens, measured and logged. It takes a place as an answer does: the threads are the same. */
export async function tokenized(
  ctx: RequestContext,
  source: { readonly kind: TokensKind; readonly body: Uint8Array },
  router: RouterParts,
): Promise<Uint8Array> {
  try {
    using _admitted = router.admission.admit();
    const response = await tokenizePrompt(ctx, source, router);
    router.metrics.tokenized();
    return response;
  } catch (thrown) {
    throw failed(ctx, ctx.signal.aborted ? ctx.signal.reason : thrown, router);
  }
}
