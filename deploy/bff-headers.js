// Which headers of an API's response pass to the browser, for nginx's module njs. The same list as in
// app/bff/proxy/rules.py: an API needs the application for others.

const ALLOWED = [
    'content-type', 'content-length', 'content-encoding', 'content-language', 'content-disposition',
    'content-location', 'content-digest', 'repr-digest', 'content-range', 'accept-ranges',
    'accept-patch', 'accept-post', 'accept-query', 'allow', 'etag', 'last-modified', 'vary',
    'location', 'link', 'retry-after', 'ratelimit', 'ratelimit-policy', 'ratelimit-limit',
    'ratelimit-remaining', 'ratelimit-reset', 'deprecation', 'sunset', 'preference-applied',
];

function only_allowed(request) {
    Object.keys(request.headersOut).forEach((name) => {
        if (!ALLOWED.includes(name.toLowerCase())) {
            delete request.headersOut[name];
        }
    });
}

export default { only_allowed };
