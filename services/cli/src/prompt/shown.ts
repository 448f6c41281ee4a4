import type { Output } from '../terminal/output.ts';
import type { ChatCall } from './stream-chat.ts';

/** Shows an answer as it comes: what the model thinks dimmed, on lines of its own, before what it says. */
export function shown(out: Output, onPiece?: (text: string) => void): Pick<ChatCall, 'onText' | 'onReasoning'> {
  let thinking = false;
  return {
    onReasoning: (text) => {
      thinking = true;
      out.write(out.dim(text));
    },
    onText: (text) => {
      if (thinking) out.line();
      thinking = false;
      onPiece?.(text);
      out.write(text);
    },
  };
}
