"""Header names by what becomes of them in a forwarded request; nginx is held to the same table."""

from __future__ import annotations

OF_THE_BROWSER = [
    *("Cookie", "Authorization", "Proxy-Authorization", "DPoP", "X-Remote-Api", "X-CSRF", "Host", "Origin"),
    *("Referer", "Sec-Fetch-Site", "Expect", "Proxy", "X-Forward-Auth-Secret"),
]
# What an API may believe of its proxy, by the product that sends it.
OF_A_TRUSTED_PROXY = [
    *("Forwarded", "Forwarded-For", "X-Forwarded", "X-Forwarded-For", "x-forwarded-user", "X-Forward-For"),
    *("X-Real-IP", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "CF-Connecting-IP", "Client-IP"),
    *("X-Azure-ClientIP", "X-Envoy-External-Address", "X-Original-Forwarded-For", "X-ProxyUser-Ip"),
    *("X-Original-URL", "X-Rewrite-URL", "X-Original-Method", "X-Host", "X-Accel-Mapping", "X-Sendfile-Type"),
    *("X-Http-Method", "X-Http-Method-Override", "X-Method-Override", "X-Middleware-Subrequest"),
    *("Remote-User", "Remote-Groups", "X-Remote-User", "X-Remote-Extra-Scopes", "X-Auth-Request-User"),
    *("X-Auth-Request-Access-Token", "X-Authenticated-Userid", "X-WebAuth-User", "X-User", "X-User-Id"),
    *("X-Ms-Client-Principal", "X-Ms-Client-Principal-Id", "X-Ms-Token-Aad-Id-Token", "X-Consumer-Username"),
    *("X-Goog-Authenticated-User-Email", "X-Goog-Iap-Jwt-Assertion", "X-Amzn-Oidc-Data", "X-Userinfo"),
    *("Cf-Access-Jwt-Assertion", "X-Authentik-Username", "X-Pomerium-Jwt-Assertion", "Tailscale-User-Login"),
    *("X-Apigateway-Api-Userinfo", "X-Endpoint-Api-Userinfo", "OIDC-Claim-Sub", "Shib-Session-Id"),
    *("X-Ssl-Client-Cert", "Ssl-Client-Verify", "Client-Cert", "X-Arr-ClientCert", "X-Client-DN"),
]

# Of an API's answer
PASSES = [
    *("Content-Type", "Content-Length", "Content-Encoding", "Content-Language", "Content-Disposition"),
    *("Content-Location", "Content-Digest", "Repr-Digest", "Content-Range", "Accept-Ranges", "Accept-Patch"),
    *("Accept-Post", "Allow", "ETag", "Last-Modified", "Vary", "Location", "Link", "Retry-After"),
    *("RateLimit", "RateLimit-Policy", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
    *("Deprecation", "Sunset", "Preference-Applied"),
]
NEEDS_A_SETTING = [
    *("X-Total", "X-Mine", "X-RateLimit-Remaining", "X-Powered-By", "Upload-Offset", "Via", "SourceMap"),
    *("Grpc-Status", "Mcp-Session-Id", "Warning", "Unheard-Of"),
]
STAYS_WITH_US = [
    *("Set-Cookie", "Set-Cookie2", "DPoP-Nonce", "X-Request-Id", "Server", "Date", "Alt-Svc", "Refresh"),
    *("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers"),
    *("Access-Control-Allow-Methods", "Access-Control-Expose-Headers", "Access-Control-Max-Age"),
    *("Access-Control-Allow-Private-Network", "Timing-Allow-Origin", "Service-Worker-Allowed"),
    *("X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Buffering", "X-Accel-Charset", "X-Accel-Limit-Rate"),
    *("X-Sendfile", "X-Lighttpd-Send-File", "X-Reproxy-Url", "NEL", "Report-To", "Reporting-Endpoints"),
    *("Sec-Session-Registration", "Sec-Session-Challenge", "Set-Login", "Origin-Trial", "Server-Timing"),
    *("WWW-Authenticate", "Authentication-Info", "Proxy-Authenticate", "Proxy-Authentication-Info"),
    *("Clear-Site-Data", "Activate-Storage-Access", "Origin-Agent-Cluster", "Permissions-Policy"),
    *("Document-Policy", "Accept-CH", "Critical-CH", "Speculation-Rules", "Use-As-Dictionary"),
    *("Cross-Origin-Embedder-Policy", "Cross-Origin-Embedder-Policy-Report-Only", "Integrity-Policy"),
    *("Cross-Origin-Opener-Policy-Report-Only", "Content-Security-Policy-Report-Only"),
    *("Cache-Control", "Expires", "Age", "Pragma", "Cache-Status", "CDN-Cache-Control", "Surrogate-Control"),
    *("Cloudflare-CDN-Cache-Control", "Edge-Control", "X-LiteSpeed-Cache-Control", "No-Vary-Search"),
]
