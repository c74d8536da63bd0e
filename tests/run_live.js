// Reads cases [{graph, inputs: [[...], ...]}, ...] as JSON from the input, computes them with runtime.js, prints outputs.
"use strict";
const { readFileSync } = require("node:fs");
const { load } = require(process.argv[2]);

const cases = JSON.parse(readFileSync(0, "utf8"));
const outputs = cases.map(({ graph, inputs }) =>
  load(graph)(...inputs.map((x) => Float32Array.from(x))).map((y) => Array.from(y, (v) => (Number.isFinite(v) ? v : String(v))))
);
process.stdout.write(JSON.stringify(outputs));
