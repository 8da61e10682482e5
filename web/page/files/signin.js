// To sign in, or to register, in one of the two roles.

import { el, field, failure, form, act } from './dom.js';

const WORDS = {
  user: { who: 'user', title: 'Book a ride', text: 'Sign in to book a bike taxi and to follow it.', demo: 'john@example.com' },
  raider: { who: 'rider', title: 'Ride for others', text: 'Sign in as a rider to see what is open near you.', demo: 'rider@example.com' },
};

// signIn returns a panel for a session in which nobody is signed in. The page goes on by itself when
// someone is.
export function signIn(session, demo) {
  const words = WORDS[session.role];
  const [note, show] = failure();
  const email = el('input', { type: 'email', autocomplete: 'username', required: true, maxlength: 254 });
  const password = el('input', { type: 'password', autocomplete: 'current-password', required: true, minlength: 8, maxlength: 128 });
  const submit = el('button', { type: 'submit', class: demo ? 'secondary' : 'primary' }, 'Sign in');
  let registers = false;
  const other = el('button', { type: 'button', class: 'quiet' }, 'Register instead');
  other.addEventListener('click', () => {
    registers = !registers;
    submit.textContent = registers ? 'Register' : 'Sign in';
    other.textContent = registers ? 'Sign in instead' : 'Register instead';
    password.setAttribute('autocomplete', registers ? 'new-password' : 'current-password');
    hint.textContent = registers ? 'At least 8 characters, and no common password.' : '';
    show(null);
  });
  const passwordField = field('Password', password, ' ');
  const hint = passwordField.querySelector('small');
  hint.textContent = '';
  return el('div', { class: 'panel' },
    el('h1', {}, words.title),
    el('p', {}, words.text),
    demo && el('div', { class: 'card' },
      el('p', {}, 'This is a demonstration. Its account needs no registration.'),
      act(`Continue as ${words.demo}`, () => session.signIn(words.demo, 'password123'), { show })),
    form(() => (registers ? session.register(email.value, password.value) : session.signIn(email.value, password.value)), { show },
      field(`Email of your ${words.who} account`, email), passwordField,
      el('p', { class: 'actions' }, submit, other)),
    note);
}
