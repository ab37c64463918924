#!/bin/sh
# Makes dashboard.schema.json from @grafana/schema, at the version in
# package.json. Needs node and npm; the tests need neither.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/package.json" "$here/dashboard.ts" "$work"
cd "$work"
npm install --ignore-scripts --no-audit --no-fund --silent
# The options of all panel types have the same name.
mkdir panels
types=node_modules/@grafana/schema/dist/types
for panel in BarGauge Stat StateTimeline Table TimeSeries; do
	folder=$(echo $panel | tr A-Z a-z)
	sed -e "s#'@grafana/schema'#'../$types/common/common.gen'#" \
		-e "s/\bOptions\b/${panel}Options/g; s/\bFieldConfig\b/${panel}Field/g" \
		"$types/raw/composable/$folder/panelcfg/x/${panel}PanelCfg_types.gen.d.ts" >panels/$panel.ts
done
echo '{"compilerOptions": {"strict": true, "skipLibCheck": true, "module": "esnext", "moduleResolution": "node", "target": "es2022"}, "files": ["dashboard.ts"]}' >tsconfig.json
npx ts-json-schema-generator --tsconfig tsconfig.json --path dashboard.ts --type File --no-type-check --out all.json
node -e '
	const fs = require("fs")
	const words = (key, value) => key === "description" && typeof value === "string" ? undefined : value
	fs.writeFileSync(process.argv[1], JSON.stringify(JSON.parse(fs.readFileSync("all.json"), words), null, 1) + "\n")
' "$here/dashboard.schema.json"
