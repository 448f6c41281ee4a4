#!/usr/bin/env bash
# Generated code is what `pnpm generate` makes of proto/ and packages/kv/kernels today. Leaves the checkout as it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
generated=packages/proto/src/gen
kernels=packages/kv/src/gen/kernels.wasm
kept=$(mktemp -d)
trap 'rm -rf "$generated" && cp -a "$kept/gen" "$generated" && cp -a "$kept/kernels.wasm" "$kernels" && rm -rf "$kept"' EXIT
cp -a "$generated" "$kept/gen"
cp -a "$kernels" "$kept/kernels.wasm"
buf generate proto
node packages/proto/scripts/descriptor-set.ts
diff -r -q "$kept/gen" "$generated" || {
  diff -r -u "$kept/gen" "$generated" | head -n 60
  echo 'generated code is not up to date: run `pnpm generate` and commit packages/proto/src/gen'
  exit 1
}
node packages/kv/scripts/kernels.ts
cmp "$kept/kernels.wasm" "$kernels" || {
  echo 'the kernels are not up to date: run `pnpm generate` and commit packages/kv/src/gen'
  exit 1
}
