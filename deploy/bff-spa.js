// Which files of a single-page app's build nginx sends, and how, for its module njs. The rules are those of
// app/bff/spa/files.py; every other request is the application's, HTML among them, whose policy it computes.

const IMMUTABLE = 'public, max-age=31536000, immutable';
const TEXT = {
    js: 'text/javascript', mjs: 'text/javascript', cjs: 'text/javascript', css: 'text/css', svg: 'image/svg+xml',
    txt: 'text/plain', md: 'text/markdown', xml: 'application/xml', csv: 'text/csv', vtt: 'text/vtt',
};
const BINARY = {
    json: 'application/json', map: 'application/json', webmanifest: 'application/manifest+json',
    wasm: 'application/wasm', woff2: 'font/woff2', woff: 'font/woff', ttf: 'font/ttf', otf: 'font/otf',
    eot: 'application/vnd.ms-fontobject', png: 'image/png', jpg: 'image/jpeg', jpeg: 'image/jpeg',
    gif: 'image/gif', webp: 'image/webp', avif: 'image/avif', ico: 'image/x-icon', bmp: 'image/bmp',
    mp3: 'audio/mpeg', wav: 'audio/wav', ogg: 'audio/ogg', flac: 'audio/flac', m4a: 'audio/mp4',
    mp4: 'video/mp4', webm: 'video/webm', mov: 'video/quicktime', pdf: 'application/pdf',
    zip: 'application/zip', geojson: 'application/geo+json', jsonld: 'application/ld+json',
    gltf: 'model/gltf+json', glb: 'model/gltf-binary',
};
const ENCODINGS = [['br', '.br'], ['gzip', '.gz']];
const NOTHING = '/dev/null/none'; // there is no such file

// A path that every server reads alike, with an extension, not that of HTML. About all others the application decides.
const FILE = /^(?:\/(?!\.)[\w!$&'()*+,=:@~.-]+)*\/(?!\.)[\w!$&'()*+,=:@~.-]+\.(?![Hh][Tt][Mm][Ll]?$)(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,12}$/;

function requested(request) {
    return request.variables.request_uri.split('?')[0];
}

function file(request) {
    const path = requested(request);
    const reads = request.method === 'GET' || request.method === 'HEAD';
    return reads && FILE.test(path) ? path : NOTHING;
}

function first_choice(request) {
    return beside(request, 0);
}

function second_choice(request) {
    return beside(request, 1);
}

function beside(request, number) {
    const path = file(request);
    const liked = accepted(request.headersIn['Accept-Encoding'] || '');
    return path === NOTHING || liked.length <= number ? NOTHING : path + liked[number];
}

// The suffixes of the encodings that the browser accepts and likes no less than none, the best first.
function accepted(header) {
    const weights = {};
    header.split(',').forEach((element) => {
        const found = /^\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;\s*[Qq]\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?$/.exec(element);
        const name = found && found[1].toLowerCase().replace('x-gzip', 'gzip');
        if (found && weights[name] === undefined) {
            weights[name] = found[2] === undefined ? 1 : Number(found[2]);
        }
    });
    const others = weights['*'] || 0;
    const weight = (name) => (weights[name] === undefined ? others : weights[name]);
    return ENCODINGS
        .filter((each) => weight(each[0]) > 0 && weight(each[0]) >= weight('identity'))
        .sort((a, b) => weight(b[0]) - weight(a[0]))
        .map((each) => each[1]);
}

function content_type(path) {
    const extension = path.slice(path.lastIndexOf('.') + 1).toLowerCase();
    if (TEXT[extension]) {
        return `${TEXT[extension]}; charset=utf-8`;
    }
    return BINARY[extension] || 'application/octet-stream';
}

const SUFFIXES = '(?:\\.(?:chunk|bundle|min|module|async|lazy|worker))?(?:\\.[a-z0-9]{1,12}){1,2}(?:\\.LICENSE\\.txt)?$';
const HEX = new RegExp(`^(?:|.*?[._-])([0-9a-f]{8,64})${SUFFIXES}`);
const EIGHT = new RegExp(`^.+[.-]([A-Za-z0-9_-]{8})${SUFFIXES}`);
const ONLY_EIGHT = new RegExp(`^([A-Za-z0-9_-]{8})${SUFFIXES}`);
const WORD = /^(?:[A-Z]?[a-z]*[0-9]*|[A-Z]+|[A-Z]{2,}[0-9]{1,2}|[0-9]+x[0-9]+|[A-Za-z][a-z]{3}[A-Z][a-z]{3})$/;

function has_content_hash(path) {
    const parts = path.replace(/^\//, '').split('/');
    const name = parts[parts.length - 1];
    const folder = parts[parts.length - 2];
    if (/\.html?$/.test(path)) {
        return false;
    }
    if (/^\/?(?:_app\/immutable|_next\/static\/chunks)\//.test(path)) {
        return true;
    }
    const hex = HEX.exec(name);
    if (hex && /[0-9]/.test(hex[1]) && /[a-f]/.test(hex[1]) && (!name.startsWith(hex[1]) || hex[1].length >= 16)) {
        return true;
    }
    const named_by_hash = /^(?:_nuxt|chunks|entry|nodes)$/.test(folder);
    const found = EIGHT.exec(name) || (named_by_hash && ONLY_EIGHT.exec(name));
    return Boolean(found) && is_base64_hash(found[1], /\.(?:js|mjs|css|map)$/.test(name));
}

function is_base64_hash(token, is_code) {
    if (is_code && /^[A-Z2-7]{8}$/.test(token)) {
        return !/^[0-9]+$/.test(token);
    }
    return !token.split(/[_-]/).every((part) => WORD.test(part));
}

function cache_control(path) {
    return has_content_hash(path) ? IMMUTABLE : 'no-cache';
}

function headers(request) {
    const path = requested(request);
    if (request.status >= 400) {
        request.headersOut['Cache-Control'] = 'no-store';
        return;
    }
    request.headersOut['Cache-Control'] = cache_control(path);
    request.headersOut.Vary = 'Accept-Encoding';
    if (request.status !== 304) {
        request.headersOut['Content-Type'] = content_type(path);
    }
    const encoding = ENCODINGS.filter((each) => request.uri === path + each[1])[0];
    if (encoding) {
        request.headersOut['Content-Encoding'] = encoding[0];
    }
}

export default { file, first_choice, second_choice, headers, accepted, content_type, cache_control };
