import { compileConstraint } from '/tmp/h/structured/main/packages/grammar/src/compile.ts';
import { numberDfa } from '/tmp/h/structured/main/packages/grammar/src/schema/numbers.ts';
for (let i=0;i<4;i++){ const t=performance.now(); const d=numberDfa({low:{value:-3.5,exclusive:false},high:{value:12,exclusive:true},integer:false,multipleOf:1}); console.log(d.accept.length, performance.now()-t);
const t2=performance.now(); compileConstraint({kind:'json_schema',schema:JSON.stringify({ type: 'array', items: { type: 'number', minimum: -3.5, exclusiveMaximum: 12 }, minItems: 2, maxItems: 5 })}); console.log('c',performance.now()-t2);
const t3=performance.now(); compileConstraint({kind:'json_schema',schema:JSON.stringify({})}); console.log('any',performance.now()-t3);}
