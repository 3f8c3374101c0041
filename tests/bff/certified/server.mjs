// Runs the certified npm package `oidc-provider` on a free port for one client.
// Its options come as JSON in the first argument; the first line it prints is {"issuer": …}.

import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

const options = JSON.parse(process.argv[2]);
// An ES module does not look at NODE_PATH, so the package is named by its file.
const { default: Provider } = await import(pathToFileURL(`${options.package}/lib/index.js`).href);

const PEOPLE = {
  alice: { name: "Alice Adams", email: "alice@example.com", email_verified: true },
};

const configuration = {
  clients: [
    {
      client_id: options.client_id,
      client_secret: options.client_secret,
      redirect_uris: options.redirect_uris,
      post_logout_redirect_uris: options.post_logout_redirect_uris,
      backchannel_logout_uri: options.backchannel_logout_uri,
      grant_types: ["authorization_code", "refresh_token", "client_credentials"],
      token_endpoint_auth_method: "client_secret_basic",
      ...options.registered,
    },
    ...(options.further ?? []),
    // Asks about tokens, however the client above authenticates.
    {
      client_id: "introspector",
      client_secret: options.client_secret,
      redirect_uris: [],
      response_types: [],
      grant_types: [],
    },
  ],
  scopes: ["openid", "profile", "email", "offline_access", "orders.read", "orders.write"],
  claims: { openid: ["sub", "sid"], profile: ["name"], email: ["email", "email_verified"] },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, ...PEOPLE[sub] }) }),
  features: {
    introspection: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
    jwtUserinfo: { enabled: true },
    clientCredentials: { enabled: true },
    pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: options.requires_par },
    dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 1), requireNonce: () => options.requires_dpop_nonce },
    requestObjects: { enabled: true },
    jwtResponseModes: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({ scope: "orders.read orders.write", accessTokenFormat: "opaque" }),
    },
  },
  // Its dispatcher closes every connection to a loopback address, and ours is one.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  // Without `prompt=consent` it takes offline_access out of the scope; that is a policy, and this is ours.
  issueRefreshToken: async (_, client) => client.grantTypeAllowed("refresh_token"),
  expiresWithSession: async () => false,
  rotateRefreshToken: true,
  ttl: { AccessToken: options.access_token_seconds, IdToken: 300, RefreshToken: 3600, Session: 3600, Grant: 3600 },
};

let refreshes = 0;
let pushed = 0;
const notifications = [];

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  provider.on("grant.success", (ctx) => (refreshes += ctx.oidc.params.grant_type === "refresh_token"));
  provider.on("backchannel.success", () => notifications.push("success"));
  provider.on("backchannel.error", (_, error) => notifications.push(String(error)));
  const answer = provider.callback();
  server.on("request", (request, response) => {
    pushed += request.url === "/request";
    if (request.url === "/refreshes") response.end(String(refreshes));
    else if (request.url === "/pushed") response.end(String(pushed));
    else if (request.url === "/notifications") response.end(JSON.stringify(notifications));
    else setTimeout(answer, request.url === "/token" ? options.token_milliseconds : 0, request, response);
  });
  console.log(JSON.stringify({ issuer }));
});
