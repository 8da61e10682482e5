// Who is signed in. The access token is in memory only, and the refresh token in a cookie that no
// script can read. A browser has one session for each role, so one tab can book what another accepts.

import { send, ApiError, pause } from './api.js';

const channel = 'BroadcastChannel' in globalThis ? new BroadcastChannel('pillion') : null;

// A Session is that of one role, 'user' or 'raider'. It sends "change" when someone signs in or out.
export class Session extends EventTarget {
  #token = '';
  #renewAt = 0;
  #renewing = null;

  constructor(role) {
    super();
    this.role = role;
    channel?.addEventListener('message', ({ data }) => {
      if (data.role === role && data.signedIn !== undefined && data.account !== this.id) this.#follow(data.signedIn);
    });
  }

  get signedIn() { return this.#token !== ''; }
  // what the page shows of its own token; only services decide by it
  get claims() { return this.signedIn ? claimsOf(this.#token) : {}; }
  get email() { return this.claims.email || ''; }
  get id() { return this.claims.sub || ''; }

  // restore goes on with the session of the cookie, if there may be one.
  async restore() {
    if (!this.signedIn && localStorage.getItem(this.#mark)) await this.renew('').catch(() => {});
  }

  async signIn(email, password) {
    this.#take(await send('POST', '/auth/login', {
      body: { email, password, role: this.role, cookie: true, role_cookie: true } }));
    this.#tell(true);
  }

  async register(email, password) {
    const made = await send('POST', '/auth/register', { body: { email, password, role: this.role } });
    if (made.pending) throw new ApiError(0, 'pending', 'Your account is made. An operator must approve it before you can sign in.');
    await this.signIn(email, password);
  }

  async signOut() {
    const token = this.#token;
    this.#forget();
    this.#tell(false);
    await send('POST', '/auth/logout', { body: { role: this.role }, token }).catch(() => {}); // its cookie is cleared, or expires
  }

  // token returns a token for a request. It renews one that is about to expire.
  async token() {
    if (this.signedIn && Date.now() > this.#renewAt) await this.renew(this.#token);
    if (!this.signedIn) throw new ApiError(401, 'signed_out', 'You are signed out. Please sign in again.');
    return this.#token;
  }

  // renew replaces a token that has been refused or is old. All callers share one refresh, and so do
  // all tabs: each refresh uses up the cookie and sets the next.
  async renew(used) {
    if (this.#token !== used) return;
    this.#renewing ??= this.#refresh().finally(() => { this.#renewing = null; });
    await this.#renewing;
  }

  #exclusively(work) {
    return navigator.locks ? navigator.locks.request(`pillion-refresh-${this.role}`, work) : work();
  }

  // An answer may be lost; the same cookie then gets the same successor.
  async #refresh() {
    for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
      try {
        this.#take(await this.#exclusively(() => send('POST', '/auth/refresh', { body: { role: this.role } })));
        return;
      } catch (error) {
        if (error.status === 401 || error.status === 403 || error.status === 400) {
          this.#forget();
          return;
        }
        await pause(error.retryAfter || wait);
      }
    }
  }

  #take(answer) {
    const before = this.id;
    this.#token = answer.token;
    // a minute before its end, or at half its life if that is short
    this.#renewAt = Date.now() + 1000 * Math.max(answer.expires_in - 60, answer.expires_in / 2);
    localStorage.setItem(this.#mark, 'yes');
    if (before !== this.id) this.dispatchEvent(new Event('change'));
  }

  #forget() {
    localStorage.removeItem(this.#mark);
    if (!this.signedIn) return;
    this.#token = '';
    this.dispatchEvent(new Event('change'));
  }

  get #mark() { return `pillion.signed-in.${this.role}`; }

  #tell(signedIn) { channel?.postMessage({ role: this.role, signedIn, account: this.id }); }

  // another tab has signed in or out
  async #follow(signedIn) {
    if (signedIn) await this.renew(this.#token);
    else this.#forget();
  }
}

function claimsOf(token) {
  const bytes = Uint8Array.from(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

// shared tells the other tabs of this browser that something of an account has changed, and hears
// of it from them.
export const shared = {
  tell: (about) => channel?.postMessage({ about }),
  hear(about, then) {
    const listener = ({ data }) => { if (data.about === about) then(); };
    channel?.addEventListener('message', listener);
    return () => channel?.removeEventListener('message', listener);
  },
};
