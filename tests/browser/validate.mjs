// node validate.mjs FILE.glb: prints the Khronos validator's report as JSON.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const validator = createRequire(import.meta.url)("gltf-validator");
const report = await validator.validateBytes(new Uint8Array(readFileSync(process.argv[2])));
console.log(JSON.stringify({ issues: report.issues, info: report.info }));
