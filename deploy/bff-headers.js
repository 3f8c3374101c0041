// Which headers of an API's response pass to the browser, and where they lead, for nginx's module njs. The same list as
// in app/bff/proxy/rules.py, and the same rules as in app/bff/proxy/locations.py and app/bff/web/headers.py: an API
// needs the application for other headers.

const ALLOWED = [
    'content-type', 'content-length', 'content-encoding', 'content-language', 'content-disposition',
    'content-location', 'content-digest', 'repr-digest', 'content-range', 'accept-ranges',
    'accept-patch', 'accept-post', 'accept-query', 'allow', 'etag', 'last-modified', 'vary',
    'location', 'link', 'retry-after', 'ratelimit', 'ratelimit-policy', 'ratelimit-limit',
    'ratelimit-remaining', 'ratelimit-reset', 'deprecation', 'sunset', 'preference-applied',
];
const LEADING = ['location', 'content-location', 'link'];
const REFERENCE = /^(?:(https?):(?=\/\/))?(?:\/\/([^\/?#\\]*))?([^?#:]*(?:\/[^?#]*)?)(\?[^#]*)?(#.*)?$/i;
const AUTHORITY = /^(?:[^@]*@)?(\[[0-9a-f:.]*\]|[^:@\[\]]+)(?::([0-9]*))?$/i;
const URL_PARTS = /^(https?):\/\/([^\/?]*)([^?]*)(\?.*)?$/i;
const ENCODED_DOTS = /(?:^|[\/\\])(?:\.|%2e){1,2}(?=[\/\\;]|%(?:2f|5c|3b|00)|$)/i;
const LINK_TARGET = /"(?:[^"\\]|\\.?)*(?:"|$)|<([^<>]*)>/g;

function passed(request) {
    const out = request.headersOut;
    Object.keys(out).forEach((name) => {
        const low = name.toLowerCase();
        if (!ALLOWED.includes(low)) {
            delete out[name];
        } else if (LEADING.includes(low)) {
            const value = low === 'link' ? mapped_link(request, out[name]) : mapped_here(request, out[name]);
            if (value !== out[name]) {
                out[name] = value;
            }
        }
    });
    // A request without X-CSRF: what a navigation shows would be a page of this origin, so that it is saved. An error,
    // which is shown, has no origin; this policy is added to that of bff-headers.conf.
    if (request.variables.bff_disposition) {
        if (request.status >= 200 && request.status < 300) {
            out['Content-Disposition'] = (out['Content-Disposition'] || '').replace(/^[^;]*/, 'attachment');
        }
        out['Content-Security-Policy'] = 'sandbox';
    }
}

function mapped_link(request, value) {
    return value.replace(LINK_TARGET, (text, target) =>
        target === undefined ? text : `<${mapped_here(request, target)}>`);
}

function mapped_here(request, reference) {
    const variables = request.variables;
    // $bff_base names the upstream: the API knows itself by its host.
    const base = variables.bff_base.replace(/^(https?:\/\/)[^\/]*/, `$1${variables.bff_host}`);
    return mapped(reference, base + variables.bff_target, base, variables.bff_api, !!variables.bff_forwarded);
}

// What lies below `base` has a path that begins with `path`; everything else stays as it is.
function mapped(reference, url, base, path, told) {
    const found = REFERENCE.exec(reference);
    if (found === null || reference === '') {
        return reference;
    }
    const requested = URL_PARTS.exec(url);
    const below = URL_PARTS.exec(base);
    const query = found[4] || '';
    let target = found[3];
    let added = query;
    if (found[2] !== undefined) {
        const theirs = target === '' || target[0] === '/' ? origin(found[1] || requested[1], found[2]) : null;
        if (theirs === null || theirs !== origin(below[1], below[2])) {
            return reference;
        }
    } else if (told && (target === path || target.startsWith(`${path}/`))) {
        return reference;
    } else if (target === '') {
        target = requested[3];
        added = query || requested[4] || '';
    } else if (target[0] !== '/') {
        target = requested[3].slice(0, requested[3].lastIndexOf('/') + 1) + target;
    }
    const rest = what_follows(without_dots(target), below[3].replace(/\/$/, ''));
    return rest === null || ENCODED_DOTS.test(rest) ? reference : path + rest + added + (found[5] || '');
}

function origin(scheme, authority) {
    const found = AUTHORITY.exec(authority);
    const low = scheme.toLowerCase();
    return found && `${low}://${found[1].toLowerCase()}:${found[2] || (low === 'https' ? '443' : '80')}`;
}

function without_dots(path) {
    const segments = path.split('/').slice(1);
    const kept = [];
    segments.forEach((segment) => {
        if (segment === '..') {
            kept.pop();
        } else if (segment !== '.') {
            kept.push(segment);
        }
    });
    if (['.', '..'].includes(segments[segments.length - 1])) {
        kept.push('');
    }
    return `/${kept.join('/')}`;
}

function what_follows(path, prefix) {
    const segments = path.split('/');
    const expected = prefix.split('/');
    const is_below = expected.every((each, index) =>
        segments[index] !== undefined && normal(each) === normal(segments[index]));
    return is_below ? segments.slice(expected.length).map((each) => `/${each}`).join('') : null;
}

function normal(segment) {
    return segment.replace(/%[0-9a-f]{2}/gi, (escape) => {
        const character = String.fromCharCode(parseInt(escape.slice(1), 16));
        return /[A-Za-z0-9._~-]/.test(character) ? character : escape.toUpperCase();
    });
}

export default { passed, mapped, only_allowed: passed };     // the last for an older nginx.conf
