// Calls of the services, as docs/clients.md describes them: commands carry an Idempotency-Key and are
// repeated with it, so that a lost answer does nothing twice.

const PATIENCE = 90_000; // ms in which a call is repeated
const TIMEOUT = 15_000; // ms for one try

// An ApiError is a refusal, in the service's own words.
export class ApiError extends Error {
  constructor(status, code, message, retryAfter = 0) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

export const pause = (ms, signal) => new Promise((done) => {
  const timer = setTimeout(done, ms * (1 + Math.random() / 4));
  signal?.addEventListener('abort', () => { clearTimeout(timer); done(); }, { once: true });
});

// network tells the page whether the services can be reached.
export const network = Object.assign(new EventTarget(), {
  up: true,
  set(up) {
    if (this.up === up) return;
    this.up = up;
    this.dispatchEvent(new Event('change'));
  },
});

// send makes one request and returns its answer. It throws an ApiError.
export async function send(method, path, { body, token, key, signal } = {}) {
  const headers = { Accept: 'application/json' };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (key) headers['Idempotency-Key'] = key;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const limit = AbortSignal.timeout(TIMEOUT);
  let response, answer;
  try {
    response = await fetch(path, {
      method, headers, cache: 'no-store', credentials: 'same-origin', redirect: 'error',
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    answer = await response.json().catch((error) => { if (response.ok) throw error; });
  } catch (error) {
    if (signal?.aborted) throw error;
    network.set(false);
    throw new ApiError(0, 'network', 'The service cannot be reached at the moment.');
  }
  network.set(true);
  if (response.ok) return answer;
  throw new ApiError(response.status, answer?.code || '', answer?.detail || `The service answered ${response.status}.`,
    1000 * Number(response.headers.get('Retry-After') || 0));
}

// call is send with the token of a session. It renews a token that has expired, and repeats what may
// be repeated: reads, and commands with a key. Others say so with repeat.
export async function call(session, method, path, { body, key, signal, repeat = method === 'GET' || method === 'PUT' || key } = {}) {
  const until = Date.now() + PATIENCE;
  for (let wait = 500, renewed = false; ; wait = Math.min(2 * wait, 5000)) {
    const token = await session.token();
    try {
      return await send(method, path, { body, token, key, signal });
    } catch (error) {
      const stale = error.code === 'token_expired' || error.code === 'invalid_token' || error.status === 401;
      if (stale && !renewed) {
        renewed = true;
        await session.renew(token);
        continue;
      }
      const passing = error.status === 0 || error.status === 429 || error.status >= 500;
      if (signal?.aborted || !passing || !repeat || Date.now() > until) throw error;
      await pause(error.retryAfter || wait, signal);
    }
  }
}

// command sends something that a person wants done, once.
export const command = (session, path, body = {}) => call(session, 'POST', path, { body, key: newKey() });

// crypto.randomUUID needs a secure context, which plain HTTP from another machine is not.
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}
