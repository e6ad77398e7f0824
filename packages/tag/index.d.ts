/** What a field of a hit may hold. What JSON cannot say is left out. */
export type Fields = Record<string, unknown>;

/** A flag of what a visitor permits. */
export type Flag = 'store' | 'measure' | 'profile' | 'match' | 'link' | 'locate';

/** Parameters that are given apart from the fields. */
export interface Options {
  /** Counts an event once. */
  id?: string;
  /** The only site that is meant, where there are several on a page. */
  site?: string;
  /** Who is logged in. It is sent in bodies only. */
  user?: string;
  /** The address of the page. */
  u?: string;
  ref?: string;
  cat?: string;
  [parameter: string]: unknown;
}

/** A hit as it is sent. */
export interface Hit {
  /** The event's name; empty for a page view. */
  e: string;
  id: string;
  u: string;
  ref: string;
  params?: Fields;
  [parameter: string]: unknown;
}

export interface Config {
  /** The collector's address: `https://px.example`. */
  collector: string;
  /** The site's key. */
  site: string;
  /** Waits for the visitor's choice. True unless told otherwise; the site's default permit decides what is kept. */
  ask?: boolean;
  /** Whether the site's default permit has `store`. */
  keep?: boolean;
  /** The function of the consent platform that is waited for. */
  wait?: '__tcfapi' | '__gpp';
  /** The domain of the choice's cookie. */
  domain?: string;
  /** The name of that cookie. */
  choice?: string;
  /** Paths of the collector, where they are others than the usual ones. */
  event?: string;
  pixel?: string;
  tag?: string;
  consent?: string;
  segments?: string;
  /** The address that gives tokens of links, up to the parameter `to`: `/link?site=shop&`. */
  link?: string;
  /** The hosts whose links get one. */
  hosts?: string[];
}

/** A part of the tag that is in a bundle only where it is imported. */
export type Module = (tag: object) => void;

/** Starts the tag. On a server it does nothing. */
export function start(config: Config, modules?: Module[]): void;

/** Gives the tag a command, also before it has started. On a server it does nothing. */
export function avtryck(command: 'event', name: string, fields?: Fields, options?: Options): void;
export function avtryck(command: 'page', fields?: Fields, options?: Options): void;
export function avtryck(command: 'consent', permit: Flag[] | Partial<Record<Flag, boolean>>): void;
export function avtryck(command: 'set', fields: Fields): void;
export function avtryck(command: 'user', id: string | null, signature?: string): void;
export function avtryck(command: 'filter', see: (hit: Hit) => unknown): void;
export function avtryck(command: 'recorded', tell: (hit: Hit, reason: string) => void): void;
export function avtryck(command: 'segments', tell: (keys: string[]) => void): void;

__MODULES__
