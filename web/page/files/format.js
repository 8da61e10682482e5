// Figures in words.

export function money(minor, currency) {
  const format = new Intl.NumberFormat(undefined, { style: 'currency', currency });
  return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits);
}

export const distance = (m) => (m < 1000 ? `${Math.max(10, Math.round(m / 10) * 10)} m` : `${(m / 1000).toFixed(1)} km`);

export const clock = (at) => new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });

export const day = (at) => new Date(at).toLocaleDateString([], { day: 'numeric', month: 'short' });

export const seconds = (s) => (s < 90 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min`);

export const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

// short returns enough of an id to tell it from its neighbours.
export const short = (id) => (id ? id.slice(0, 6) : '');

// The words for what has happened, and for how a booking stands.
export const events = {
  requested: 'Requested', accepted: 'Accepted', arrived: 'Arrived at the pickup', started: 'Ride started',
  start_refused: 'Wrong start code', completed: 'Ride completed', cancelled: 'Cancelled', released: 'Given back',
  expired: 'Expired', rated: 'Rated by the user', rider_rated: 'Rated by the rider',
  operator_cancelled: 'Cancelled by an operator', operator_released: 'Given back by an operator',
};

// titleOf returns the words for an event, which may be called "rated" for both sides.
export const titleOf = ({ event, role }) => events[event === 'rated' && role === 'raider' ? 'rider_rated' : event] || event;

export const states = {
  open: 'Open', accepted: 'On the way', arrived: 'At the pickup', started: 'Riding', completed: 'Completed',
  cancelled: 'Cancelled', expired: 'Expired',
};
