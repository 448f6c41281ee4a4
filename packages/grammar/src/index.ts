export { compileConstraint } from './compile.ts';
