/** Class of frames and runs of about this many pairs: 1, 2 to 3, 4 to 7 ... Reading a prompt isn't compared with a step. */
export const sizeClass = (pairs: number): number => Math.floor(Math.log2(Math.max(1, pairs)));
