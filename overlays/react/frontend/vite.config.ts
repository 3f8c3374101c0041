import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, gzipSync } from "node:zlib";

import react from "@vitejs/plugin-react";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

// scripts/dev.sh starts the development server; the application forwards to it, so that both have one address.
export default defineConfig(({ command }) => ({
  plugins: [react(), compressed()],
  clearScreen: false,
  logLevel: command === "serve" ? "warn" : "info",
  server: { strictPort: true, fs: { allow: [".", "../static/bff"] } },
  test: { environment: "happy-dom", restoreMocks: true, unstubGlobals: true, testTimeout: 30_000 },
}));

/** Writes .br and .gz beside what compresses well: the application and nginx send them. */
function compressed(): Plugin {
  return {
    name: "compressed",
    apply: "build",
    writeBundle({ dir = "dist" }, bundle) {
      for (const name of Object.keys(bundle).filter((name) => /\.(css|js|json|svg)$/.test(name))) {
        const content = readFileSync(`${dir}/${name}`);
        writeFileSync(`${dir}/${name}.br`, brotliCompressSync(content));
        writeFileSync(`${dir}/${name}.gz`, gzipSync(content, { level: 9 }));
      }
    },
  };
}
