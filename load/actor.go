package load

import (
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
)

// An actor is somebody with an account.
type actor struct {
	run   *run
	role  booking.Role
	email string
	id    string // known once logged in
	turn  atomic.Uint64

	session sync.Mutex // held while another token is fetched

	mu      sync.Mutex
	random  *rand.Rand
	token   string
	refresh string
	expires time.Time
	life    time.Duration
	until   time.Time // told not to come back before this
}

// people makes all accounts and logs them in.
func (r *run) people(ctx context.Context) error {
	r.tally.expect(r.Users + r.Riders)
	for i := range r.Users {
		r.users = append(r.users, &user{actor: r.newActor(booking.User, i)})
	}
	for i := range r.Riders {
		r.riders = append(r.riders, &rider{actor: r.newActor(booking.Rider, i)})
	}
	var group errgroup.Group
	// Each account costs authsvc two hashes, which are meant to be slow. It does one less at a time than it has cores, and refuses a long queue.
	group.SetLimit(8)
	for _, u := range r.users {
		group.Go(func() error { return u.settle(ctx) })
	}
	for _, d := range r.riders {
		group.Go(func() error { return d.settle(ctx) })
	}
	return group.Wait()
}

func (r *run) newActor(role booking.Role, i int) *actor {
	a := &actor{run: r, role: role, email: fmt.Sprintf("%s-%d@load.example.com", r.Name, i)}
	stream := uint64(i) << 1
	if role == booking.Rider {
		stream++
	}
	a.random = rand.New(rand.NewPCG(r.Seed, stream)) //nolint:gosec // chance, and no secret
	a.turn.Store(uint64(i))
	return a
}

// errAccounts is why there is nobody to make the load.
var errAccounts = fault.New(fault.Unavailable, "load_accounts", "The accounts of the load could not be made.")

// settle makes the account, where it is not there yet, and logs in.
func (a *actor) settle(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	made := a.do(ctx, step{op: Register, method: http.MethodPost, hosts: a.run.Auth, path: "/register", body: a.credentials(), open: true, again: true, due: time.Now()})
	if !made.done() && made.Status != http.StatusConflict {
		return a.refusal(made)
	}
	if r := a.login(ctx); !r.done() {
		return a.refusal(r)
	}
	a.run.tally.arrived()
	return nil
}

func (a *actor) refusal(r result) error {
	sentence := fmt.Sprintf("The accounts of the load could not be made: %s was answered with %d %s.", r.Op, r.Status, r.Code)
	switch {
	case r.Outcome == Limited:
		sentence = "authsvc takes no more registrations from here. For a load test start it with --address-limit 1000000 --request-limit 0, and usersvc and ridersvc with --request-limit 0."
	case r.Status == 0:
		sentence = "authsvc could not be reached to make the accounts of the load. See that it runs and that its address is right."
	case r.Op == Login && r.Status == http.StatusUnauthorized:
		sentence = "There are accounts of this name, with another password. Choose another name, or give their password."
	case r.Op == Login && r.Status == http.StatusForbidden:
		sentence = "New raiders have to be approved before they can log in. Start authsvc without --approve-riders for a load test."
	}
	return errAccounts.Saying(sentence)
}

func (a *actor) credentials() map[string]string {
	return map[string]string{"email": a.email, "password": a.run.Password, "role": string(a.role)}
}

// A tokenAnswer is that of /login and /refresh.
type tokenAnswer struct {
	Token   string `json:"token"`
	Expires int64  `json:"expires_in"` // seconds
	Refresh string `json:"refresh_token"`
}

func (a *actor) login(ctx context.Context) result {
	var t tokenAnswer
	r := a.do(ctx, step{op: Login, method: http.MethodPost, hosts: a.run.Auth, path: "/login", body: a.credentials(), open: true, again: true, due: time.Now(), into: &t})
	if r.done() {
		a.take(t)
	}
	return r
}

func (a *actor) take(t tokenAnswer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token, a.refresh = t.Token, t.Refresh
	a.life = time.Duration(t.Expires) * time.Second
	a.expires = time.Now().Add(a.life)
	if a.id == "" {
		a.id = subject(t.Token)
	}
}

// subject returns whose a token is. It is not verified: nothing is decided by it.
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

// bearer returns a token that is good for a while, and whether there is one that is good at all. Where the one at hand has a third of its life left it
// fetches another.
func (a *actor) bearer(ctx context.Context) (string, bool) {
	if token, fresh, _ := a.held(); fresh {
		return token, true
	}
	a.session.Lock()
	defer a.session.Unlock()
	if token, fresh, _ := a.held(); fresh {
		return token, true // another step has fetched it meanwhile
	}
	a.renew(ctx)
	token, _, good := a.held()
	return token, good
}

// renew exchanges the refresh token, or logs in again where that is not taken.
func (a *actor) renew(ctx context.Context) {
	a.mu.Lock()
	refresh := a.refresh
	a.mu.Unlock()
	var t tokenAnswer
	r := a.do(ctx, step{
		op: Refresh, method: http.MethodPost, hosts: a.run.Auth, path: "/refresh", body: map[string]string{"refresh_token": refresh},
		open: true, again: true, due: time.Now(), into: &t,
	})
	switch {
	case r.done():
		a.take(t)
	case r.Outcome == Refused:
		a.login(ctx)
	}
}

// held returns the token at hand, whether it has more than a third of its life left, and whether it is good at all.
func (a *actor) held() (token string, fresh, good bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := time.Until(a.expires)
	return a.token, left > a.life/3, left > 0
}

// outdated reports whether the token that was at hand at a time may have run out since. In any case it is not used again.
func (a *actor) outdated(at time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.expires.Add(-a.life).After(at) {
		return true // there is another one since
	}
	ran := time.Now().After(a.expires)
	a.expires = time.Time{}
	return ran
}

// hush keeps the actor from asking for anything for a while, as an answer has said.
func (a *actor) hush(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if until := time.Now().Add(d); until.After(a.until) {
		a.until = until
	}
}

// quiet waits as long as the actor was told to, and reports whether ctx lasts until then.
func (a *actor) quiet(ctx context.Context) bool {
	for {
		a.mu.Lock()
		d := time.Until(a.until)
		a.mu.Unlock()
		if d <= 0 {
			return ctx.Err() == nil
		}
		if !pause(ctx, d) {
			return false
		}
	}
}

// instance returns whom to ask: another one each time, where there are several.
func (a *actor) instance(hosts []string) string {
	return hosts[(a.turn.Add(1)-1)%uint64(len(hosts))]
}

// chance is true with a probability.
func (a *actor) chance(p float64) bool { return a.float() < p }

func (a *actor) float() float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.random.Float64()
}

// soon returns when the actor has thought for long enough: half the usual time to half as much again.
func (a *actor) soon() time.Time {
	return time.Now().Add(time.Duration((0.5 + a.float()) * float64(a.run.Think)))
}

// acknowledged returns what a step that is done must have left in the ledger.
func (a *actor) acknowledged(s step, c Call) acknowledged {
	k := acknowledged{Acknowledged: inspect.Acknowledged{Booking: c.Booking, Kind: s.kind, Actor: a.id}, role: a.role, start: c.Start, end: c.End}
	if u := a.run.owner(c.Booking); u != nil {
		k.owner = u.id
	}
	if !s.perhaps {
		k.Command, _ = booking.Keyed(a.id, s.path, s.key, nil)
	}
	return k
}
