package sim

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
)

// An actor is a user or a rider, with an account and a session.
type actor struct {
	run   *run
	role  booking.Role
	rider *rider // itself, if the actor is one
	email string
	id    string // known once logged in
	turn  atomic.Uint64

	// session has a place for the step that requests a new token. It is no mutex: virtual time does
	// not pass while one is waited for.
	session chan struct{}

	mu       sync.Mutex
	random   *rand.Rand
	token    string
	refresh  string
	replaced time.Time // when the token was
	expires  time.Time // not before this time
	life     time.Duration
	until    time.Time // no calls before this time
}

// createActors creates all accounts and logs them in.
func (r *run) createActors(ctx context.Context) error {
	r.stats.expect(r.Scene.Users + len(r.Scene.Riders))
	for i := range r.Scene.Users {
		r.users = append(r.users, &user{actor: r.newActor(booking.User, i)})
	}
	for i, profile := range r.Scene.Riders {
		r.riders = append(r.riders, newRider(r.newActor(booking.Rider, i), profile))
	}
	var group errgroup.Group
	// Each account costs authsvc two slow password hashes. It computes one less at a time than it
	// has cores, and refuses a long queue.
	group.SetLimit(8)
	for _, u := range r.users {
		group.Go(func() error { return u.signUp(ctx) })
	}
	for _, d := range r.riders {
		group.Go(func() error { return d.signUp(ctx) })
	}
	return group.Wait()
}

func (r *run) newActor(role booking.Role, i int) *actor {
	email := fmt.Sprintf("%s-%d@sim.example.com", r.Name, i)
	a := &actor{run: r, role: role, email: email, session: make(chan struct{}, 1)}
	stream := uint64(i) << 1
	if role == booking.Rider {
		stream++
	}
	a.random = random(r.Seed, stream)
	a.turn.Store(uint64(i))
	return a
}

// errAccounts means that the accounts of a run cannot be created or used. Its message gives the
// reason.
var errAccounts = fault.New(fault.Unavailable, "simulation_accounts", "Cannot create the accounts of the simulation.")

// signUp creates the account, if it does not exist, and logs in.
func (a *actor) signUp(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	registered := a.auth(ctx, Register, "/register", a.credentials(), nil)
	if !registered.done() && registered.Status != http.StatusConflict {
		return a.refusal(registered)
	}
	if r := a.login(ctx); !r.done() {
		return a.refusal(r)
	}
	a.run.stats.arrived()
	return nil
}

// refusal returns the error for a registration or a login that failed.
func (a *actor) refusal(r result) error {
	message := fmt.Sprintf("Cannot create the accounts of the simulation: authsvc answered %s with %d %s.", r.Op,
		r.Status, r.Code)
	switch {
	case r.Outcome == Limited:
		message = "authsvc limits registrations from this network. For a simulation start it with " +
			"--address-limit 1000000 --request-limit 0, and usersvc and ridersvc with --request-limit 0."
	case r.Status == 0:
		message = "Cannot reach authsvc to create the accounts of the simulation. " +
			"Check that it is running, and its address."
	case r.Op == Login && r.Status == http.StatusUnauthorized:
		message = "There are accounts of this name with another password. Choose another name, or use their password."
	case r.Op == Login && r.Status == http.StatusForbidden:
		message = "New raiders need approval before they can log in. " +
			"Start authsvc without --approve-riders for a simulation."
	}
	return errAccounts.Saying(message)
}

// auth calls authsvc, which needs no token for that.
func (a *actor) auth(ctx context.Context, op Op, path string, body map[string]string, into any) result {
	return a.do(ctx, step{
		op: op, method: http.MethodPost, hosts: a.run.Auth, path: path, body: body, into: into,
		anonymous: true, idempotent: true, due: time.Now(),
	})
}

func (a *actor) credentials() map[string]string {
	return map[string]string{"email": a.email, "password": a.run.Password, "role": string(a.role)}
}

// A tokenAnswer is the answer of /login and /refresh.
type tokenAnswer struct {
	Token   string `json:"token"`
	Expires int64  `json:"expires_in"` // seconds
	Refresh string `json:"refresh_token"`
}

func (a *actor) login(ctx context.Context) result {
	var t tokenAnswer
	r := a.auth(ctx, Login, "/login", a.credentials(), &t)
	if r.done() {
		a.setToken(t, r.Start)
	}
	return r
}

// setToken replaces the token by one that was requested at a time.
func (a *actor) setToken(t tokenAnswer, requested time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token, a.refresh, a.replaced = t.Token, t.Refresh, time.Now()
	a.life = time.Duration(t.Expires) * time.Second
	// It was signed at any time since, and authsvc rounds exp down to a second.
	a.expires = requested.Add(a.life - time.Second)
	a.id = cmp.Or(a.id, subject(t.Token))
}

// subject returns the account of a token, without verifying the token.
func subject(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Subject
}

// bearer returns the actor's token and whether it is valid. It refreshes the token if less than a
// third of its lifetime is left.
func (a *actor) bearer(ctx context.Context) (string, bool) {
	if token, fresh, _ := a.current(); fresh {
		return token, true
	}
	select {
	case a.session <- struct{}{}:
	case <-ctx.Done():
		return "", false
	}
	defer func() { <-a.session }()
	if token, fresh, _ := a.current(); fresh {
		return token, true // another step has refreshed it meanwhile
	}
	a.renew(ctx)
	token, _, valid := a.current()
	return token, valid
}

// renew exchanges the refresh token, or logs in again if the refresh is refused.
func (a *actor) renew(ctx context.Context) {
	a.mu.Lock()
	refresh := a.refresh
	a.mu.Unlock()
	var t tokenAnswer
	r := a.auth(ctx, Refresh, "/refresh", map[string]string{"refresh_token": refresh}, &t)
	switch {
	case r.done():
		a.setToken(t, r.Start)
	case r.Outcome == Refused:
		a.login(ctx)
	}
}

// current returns the token, whether more than a third of its lifetime is left, and whether it has
// not expired.
func (a *actor) current() (token string, fresh, valid bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := time.Until(a.expires)
	return a.token, left > a.life/3, left > 0
}

// discardToken makes the actor request a new token. It reports whether the token used at the given
// time may have expired since.
func (a *actor) discardToken(used time.Time) (expired bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.replaced.After(used) {
		return true // by another step
	}
	expired = time.Now().After(a.expires)
	a.expires = time.Time{}
	return expired
}

// backoffUntil stops all calls of the actor for d, as a Retry-After header demands.
func (a *actor) backoffUntil(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if until := time.Now().Add(d); until.After(a.until) {
		a.until = until
	}
}

// awaitBackoff waits until the actor may make calls. It reports whether ctx has not ended before.
func (a *actor) awaitBackoff(ctx context.Context) bool {
	for {
		a.mu.Lock()
		d := time.Until(a.until)
		a.mu.Unlock()
		if d <= 0 {
			return ctx.Err() == nil
		}
		if !retry.Sleep(ctx, d) {
			return false
		}
	}
}

// instance returns the next of several instances, in turn.
func (a *actor) instance(hosts []string) string {
	return hosts[(a.turn.Add(1)-1)%uint64(len(hosts))]
}

// chance returns true with probability p.
func (a *actor) chance(p float64) bool { return a.float() < p }

func (a *actor) float() float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.random.Float64()
}

// somewhere returns a random place.
func (a *actor) somewhere(pick func(*rand.Rand) booking.Place) booking.Place {
	a.mu.Lock()
	defer a.mu.Unlock()
	return pick(a.random)
}

// soon returns the due time of the next step: after half to one and a half times Think.
func (a *actor) soon() time.Time {
	return time.Now().Add(a.run.ours(time.Duration((0.5 + a.float()) * float64(a.run.Scene.Think))))
}

// act carries out an operation on a booking.
func (a *actor) act(
	ctx context.Context, op Op, id booking.ID, verb string, body map[string]any, kind booking.Kind, due time.Time,
) result {
	hosts := a.run.User
	if a.role == booking.Rider {
		hosts = a.run.Rider
	}
	return a.do(ctx, step{
		op: op, method: http.MethodPost, hosts: hosts, path: "/bookings/" + string(id) + "/" + verb, body: body,
		key: booking.NewID(), booking: id, due: due, kind: kind, into: new(bookingAnswer),
	})
}

func (a *actor) stars() int { return 1 + int(a.float()*5) }

// acknowledged returns the event that a successful step must have added to the ledger.
func (a *actor) acknowledged(s step, c Call) acknowledged {
	k := acknowledged{
		Acknowledged: inspect.Acknowledged{Booking: c.Booking, Kind: s.kind, Actor: a.id}, role: a.role, rider: a.rider,
		start: c.Start, end: c.End,
	}
	if b, ok := s.into.(*bookingAnswer); ok {
		k.fare = b.Fare
	}
	if u := a.run.owner(c.Booking); u != nil {
		k.owner = u.id
	}
	if !s.mayRepeat {
		k.Command, _ = booking.Keyed(a.id, s.path, s.key, nil)
	}
	return k
}
