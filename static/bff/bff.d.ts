/** Types of bff.js: `const me = await user<{ roles: string[] }>()`. */

/** What `/bff/user` says of every session, whatever the provider sends. */
export interface SessionClaims {
  sub: string;
  /** Where a link signs out. It differs from session to session. */
  "bff:logout_url": string;
  /** Seconds until the session ends if it is not used. */
  "bff:session_expires_in": number;
  "bff:session_state"?: string;
}

/** Claims that most providers send (OpenID Connect Core 1.0, §2 and §5.1), and any other one as `unknown`. */
export interface StandardClaims {
  name?: string;
  given_name?: string;
  family_name?: string;
  preferred_username?: string;
  picture?: string;
  email?: string;
  email_verified?: boolean;
  locale?: string;
  zoneinfo?: string;
  auth_time?: number;
  acr?: string;
  amr?: string | string[];
  [claim: string]: unknown;
}

/** A claim with one value is that value, one with several an array; an object is JSON text. */
export type User<Claims extends object = StandardClaims> = SessionClaims & Claims;

/** The user's claims, or null without a session. `slide: false` does not prolong the session. */
export function user<Claims extends object = StandardClaims>(options?: {
  slide?: boolean;
}): Promise<User<Claims> | null>;

/** A problem document (RFC 9457). `code` never changes; `title` and `detail` are for people. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
  request_id: string;
  login_url?: string;
  errors?: { pointer: string; detail: string }[];
}

/** What `jsonOf` throws; an answer that is no problem document leaves the members out. */
export type ProblemError = Error & Partial<Problem>;

/** A Response whose JSON has a known type. */
export interface TypedResponse<Body> extends Response {
  clone(): TypedResponse<Body>;
  json(): Promise<Body>;
}

/** The JSON of an answer, or null if it has none; throws a ProblemError for one that is not ok. */
export function jsonOf<Body>(answer: TypedResponse<Body>): Promise<Body>;

export const api: {
  /** `fetch()` for a path of this site; goes to log in, and back, if need be. */
  fetch<Body = any>(path: string, init?: RequestInit): Promise<TypedResponse<Body>>;
};

export interface LoginParams {
  prompt?: string;
  login_hint?: string;
  acr_values?: string;
  max_age?: number | string;
  [allowed: string]: string | number | undefined;
}

/** Goes to log in, then to `returnUrl`: this page, if none is named. */
export function login(returnUrl?: string, params?: LoginParams): void;

/** Signs out, at the provider too; the page leaves. Throws a ProblemError if that fails. */
export function logout(returnUrl?: string): Promise<void>;

/** Why a session has ended; a reason that a later version adds is a string as well. */
export type EndReason =
  | "signed_out"
  | "signed_out_elsewhere"
  | "signed_in_again"
  | "too_many_sessions"
  | "provider"
  | "not_allowed"
  | "operator"
  | "expired"
  | (string & {});

/** The events of `/bff/events`, and the `detail` of each. */
export interface SessionEvents {
  /** It ends in so many seconds, unless it is used. */
  ending: { expires_in: number };
  /** Without a reason it was over before. */
  ended: { reason?: EndReason };
  /** The user's claims have changed: read them again. */
  changed: object;
}

/** Hears of the session; returns what stops it. */
export function on<Type extends keyof SessionEvents>(
  type: Type,
  handler: (event: CustomEvent<SessionEvents[Type]>) => void,
): () => void;
