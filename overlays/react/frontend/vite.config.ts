import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// scripts/dev.sh starts the development server; the application forwards to it, so that both have one address.
export default defineConfig(({ command }) => ({
  plugins: [react()],
  clearScreen: false,
  logLevel: command === "serve" ? "warn" : "info",
  server: { strictPort: true, fs: { allow: [".", "../static/bff"] } },
  test: { environment: "happy-dom", restoreMocks: true, unstubGlobals: true },
}));
