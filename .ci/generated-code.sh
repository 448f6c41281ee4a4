#!/usr/bin/env bash
# Generated code is what `pnpm generate` makes of proto/ today. Leaves the checkout as it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
generated=packages/proto/src/gen
kept=$(mktemp -d)
trap 'rm -rf "$generated" && cp -a "$kept/gen" "$generated" && rm -rf "$kept"' EXIT
cp -a "$generated" "$kept/gen"
buf generate proto
node packages/proto/scripts/descriptor-set.ts
diff -r -q "$kept/gen" "$generated" || {
  diff -r -u "$kept/gen" "$generated" | head -n 60
  echo 'generated code is not up to date: run `pnpm generate` and commit packages/proto/src/gen'
  exit 1
}
