package wiring

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/bound"
	"github.com/example/pillion/authsvc/keys"
	"github.com/example/pillion/authsvc/orders"
	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/callout"
	"github.com/example/pillion/bus/leaving"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
	"github.com/example/pillion/web"
)

// newKeyBits is the size of a new signing key, in bits.
const newKeyBits = 2048

// Accounts is a store of accounts and its life cycle.
type Accounts struct {
	authsvc.AccountStore
	// migrates the schema; returns fault.Unavailable to be called again
	Prepare func(context.Context) error
	Close   func()
	Checks  []web.Check // must pass before the process is ready

	bound *bound.Bucket // nil: they are not in NATS
}

// NATSAccounts returns the store in NATS, bound with a key. Without a key it is only for reading,
// and believes everything.
func NATSAccounts(conn *bus.Conn, binding []byte) Accounts {
	a := Accounts{Prepare: func(context.Context) error { return nil }, Close: func() {}}
	if binding == nil {
		a.AccountStore = authsvc.NewAccounts(conn.Bucket(bus.AccountsBucket))
		return a
	}
	a.bound = bound.Bind(conn, bus.AccountsBucket, binding, conn.Log(), conn.Registerer())
	a.AccountStore = authsvc.NewAccounts(a.bound)
	a.Checks = []web.Check{{Name: "account records", Ready: a.bound.Ready}}
	return a
}

// watch notices accounts that authsvc has not stored, until ctx ends.
func (a Accounts) watch(ctx context.Context) error {
	if a.bound == nil {
		return nil
	}
	return a.bound.Watch(ctx)
}

// Auth returns authsvc, which closes accounts when it stops. It reads the first private key, if
// there is one. The keys of the auth callout are read from the folder natsKeys, or created there.
func (b *Base) Auth(s setting.Keys, h setting.HTTP, accounts Accounts, natsKeys string) (Component, error) {
	answerCallouts, err := b.callout(natsKeys, h)
	if err != nil {
		return Component{}, err
	}
	b = b.Of("authsvc")
	authority, sessions, err := b.trusted(s, natsKeys)
	if err != nil {
		return Component{}, err
	}
	ring := keys.NewRing(s.KeyFile(), newKeyBits)
	if _, _, err := ring.First(); err != nil { // report a bad file before anything else happens
		return Component{}, err
	}
	watch := timedKeys{b.Keys, b.Clock}
	signer := keys.NewSigner(ring, watch, token.IssuerConfig{Life: s.JWTExpiry.Value})
	services := keys.NewSigner(ring, watch, token.IssuerConfig{Life: s.Service.Value, Type: token.ServiceType})
	guard, err := b.guard(s.Logins)
	if err != nil {
		return Component{}, err
	}
	trail := trust.NewAuditTrail(b.Conn, "/authsvc")
	audit := func(ctx context.Context, e authsvc.Entry) { trail.Offer(ctx, e.What, e) }
	serviceTokens := authsvc.NewServiceTokens(s.ServicesDir(), services, audit, time.Now)
	rotator, err := b.rotator(s, authority, ring, watch, audit)
	if err != nil {
		return Component{}, err
	}
	service, err := authsvc.New(authsvc.Config{
		Accounts: accounts.AccountStore,
		Sessions: sessions,
		Rules:    session.Rules{Life: s.Life.Value, Idle: offAtZero(s.Idle.Value), Grace: offAtZero(s.Grace.Value)},
		Revoke:   authority.Revoke,
		Verifier: b.Verifier,
		Issuer:   signer,
		Keys:     b.published,
		Hasher:   authsvc.NewHasher(authsvc.HasherConfig{}),
		CancelBookings: func(ctx context.Context, account string, role token.Role) error {
			return leaving.Withdraw(ctx, b.Conn, account, booking.Role(role))
		},
		EndRides:       endRides(b.Conn),
		Clock:          b.Clock.Right,
		Throttle:       guard,
		Audit:          audit,
		ApproveRiders:  s.Approve.On,
		CookiePath:     s.CookiePath.Value,
		Demo:           s.Demo.On,
		Log:            b.Log.With("service", "authsvc"),
		Registerer:     b.Registry,
		Tracer:         b.Conn.Tracer(),
		TrustedProxies: h.TrustedProxies.Value,
		Rate:           web.Rate{PerMinute: h.RequestLimit.Value},
		Origins:        h.Origins.Value,
	})
	if err != nil {
		return Component{}, err
	}
	start := &authStart{
		base: b, adopt: func(ctx context.Context) error { return adopt(ctx, authority, accounts.bound, sessions) },
		prepareKeys: rotator.Prepare, prepareAccounts: accounts.Prepare, seedDemo: service.SeedDemo, demo: s.Demo.On,
		keysReady: make(chan struct{}),
	}
	return Component{
		Handler: service.Routes(),
		Tasks: []program.Task{
			trail.Run, answerCallouts, start.run, onStop(accounts.Close),
			b.measures(bus.AuditStream, bus.AccountsBucket, bus.SessionsBucket, bus.KeysBucket, bus.RevocationsBucket,
				bus.LimitsBucket, bus.FamiliarBucket),
			after(start.keysReady, b.answer(serviceTokens, Orders(b.Conn, accounts, authority))),
			after(start.keysReady, func(ctx context.Context) error { return authority.Mend(ctx, b.Keys, b.Revoked) }),
			after(start.keysReady, rotator.Run), after(start.keysReady, sessions.Watch),
			after(start.keysReady, accounts.watch),
		},
		Checks: append(accounts.Checks, web.Check{Name: "accounts", Ready: start.ready},
			web.Check{Name: "signing key", Ready: func(context.Context) error { return signer.Ready() }},
			web.Check{Name: "session records", Ready: sessions.Ready},
			web.Check{Name: "authority", Ready: authority.Ready}),
	}, nil
}

// adopt signs and binds what an older version has stored. Only the first start believes that.
func adopt(ctx context.Context, authority *trust.Authority, buckets ...*bound.Bucket) error {
	if !authority.HasPublished() {
		for _, b := range buckets {
			if b == nil {
				continue
			}
			if err := b.Adopt(ctx); err != nil {
				return err
			}
		}
	}
	return authority.Adopt(ctx)
}

// trusted returns what signs with the trust key, and the sessions that only authsvc can write. The
// authority records what it has published beside the private keys, in the folder that all instances
// share.
func (b *Base) trusted(s setting.Keys, natsKeys string) (*trust.Authority, *bound.Bucket, error) {
	file := s.TrustKeyPath(access.KeyFile(natsKeys, access.Authsvc))
	key, err := trustkey.Load(file)
	if err != nil {
		return nil, nil, err
	}
	if err := b.anchor.Accept(key); err != nil {
		return nil, nil, trustkey.ErrAnchor.Sayingf("The trust key in %s does not belong to the public half "+
			"that --trust names. Run `pillion keys init`, which replaces that, or restore the key from a copy.",
			file).Because(err)
	}
	binding, err := BindingKey(file)
	if err != nil {
		return nil, nil, err
	}
	record := filepath.Join(filepath.Dir(s.KeyFile()), "published.jwt")
	sessions := bound.Bind(b.Conn, bus.SessionsBucket, binding, b.Log, b.Registry)
	authority := trust.NewAuthority(b.Conn, key, record)
	authority.Anchor = b.anchor
	return authority, sessions, nil
}

// rotator returns what replaces the signing key by age and on command. It records each change of
// the key set in the audit trail.
func (b *Base) rotator(
	s setting.Keys, authority *trust.Authority, ring *keys.Ring, watch keys.SetWatch,
	audit func(context.Context, authsvc.Entry),
) (*keys.Rotator, error) {
	return keys.NewRotator(keys.RotatorConfig{
		Ring: ring, Watch: watch, LedgerAge: b.Conn.LedgerAge,
		Update:    authority.ChangeKeys,
		Elsewhere: func(ctx context.Context) (bool, error) { return trust.AuthAnswers(ctx, b.Conn) },
		MaxAge:    s.KeyAge.Value, Retention: s.Retention.Value,
		OnChange: func(ctx context.Context, c keys.Change) { audit(ctx, authsvc.EntryOfKey(c, "")) },
		Log:      b.Log.With("service", "authsvc"), Registerer: b.Registry,
	})
}

// callout returns the task that answers the auth callouts of NATS.
func (b *Base) callout(natsKeys string, h setting.HTTP) (program.Task, error) {
	secret, err := access.LoadCalloutSecret(natsKeys)
	if err != nil {
		return nil, err
	}
	responder, err := callout.New(callout.Config{
		Conn: b.Of(access.Callout).Conn, Secret: secret, Verifier: b.Verifier, Keys: b.Keys, Revocations: b.Revoked,
		Watch: b.Revoked, PerNetwork: h.PerNetwork.Value, TrustedProxies: h.TrustedProxies.Value,
		Log: b.Log.With("service", "authsvc"), Registerer: b.Registry,
	})
	if err != nil {
		return nil, err
	}
	return responder.Run, nil
}

// guard returns the limits on logins and registrations.
func (b *Base) guard(s setting.Logins) (*throttle.LoginThrottle, error) {
	limits := throttle.DefaultLimits()
	limits.Account.Free = s.LoginLimit.Value
	limits.Address.Free, limits.Registrations.Free = s.AddressLimit.Value, s.AddressLimit.Value
	return throttle.New(throttle.Config{
		Counters: b.Conn.Bucket(bus.LimitsBucket), Familiar: b.Conn.Bucket(bus.FamiliarBucket), Limits: limits,
	})
}

// An authStart prepares what authsvc needs before it is ready: the signing key, the schema of
// accounts and the demo accounts. It retries until NATS and the database are there.
type authStart struct {
	base *Base

	adopt, prepareKeys, prepareAccounts, seedDemo func(context.Context) error

	demo      bool
	keysReady chan struct{} // closed once there is a signing key
	done      atomic.Bool
}

func (a *authStart) run(ctx context.Context) error {
	if err := a.base.persist(ctx, "signing what an older version has stored", a.adopt); err != nil {
		return err
	}
	if err := a.base.persist(ctx, "preparing the signing key", a.prepareKeys); err != nil {
		return err
	}
	if ctx.Err() == nil {
		close(a.keysReady)
	}
	if err := a.base.persist(ctx, "preparing the store of accounts", a.prepareAccounts); err != nil {
		return err
	}
	if err := a.base.persist(ctx, "creating the demo accounts", a.seedDemo); err != nil {
		return err
	}
	if a.demo {
		// Each of the two password hashes took 19 MiB. Without this call an idle process keeps that
		// memory for minutes, and it is more than all the rest that it uses.
		debug.FreeOSMemory()
	}
	a.done.Store(ctx.Err() == nil)
	return nil
}

// ready returns nil once everything is prepared.
func (a *authStart) ready(context.Context) error {
	if !a.done.Load() {
		return errors.New("the signing key or the accounts are not prepared yet")
	}
	return nil
}

// timedKeys hides the keys while the clock is wrong: which key signs, and which may be deleted,
// depends on the time.
type timedKeys struct {
	keys.SetWatch
	clock *trust.Clock
}

// KeySet returns the key set, or token.ErrClock while the clock is wrong.
func (k timedKeys) KeySet() (*token.KeySet, time.Time, error) {
	if err := k.clock.Right(); err != nil {
		return nil, time.Time{}, err
	}
	return k.SetWatch.KeySet()
}

// offAtZero converts a setting for authsvc, to which a negative duration means off.
func offAtZero(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// published returns the key set for publication, or nil while there is none. It is the set that
// verifiers use, so that all instances of authsvc publish the same one.
func (b *Base) published() *token.KeySet {
	set, _, err := b.Keys.KeySet()
	if err != nil {
		return nil
	}
	if set, err = set.Published(); err != nil {
		return nil
	}
	return set
}

// onStop returns a task that calls f when it is stopped. Requests have finished by then.
func onStop(f func()) program.Task {
	return func(ctx context.Context) error {
		<-ctx.Done()
		f()
		return nil
	}
}

// after returns a task that runs task once begin is closed.
func after(begin <-chan struct{}, task program.Task) program.Task {
	return func(ctx context.Context) error {
		select {
		case <-begin:
			return task(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// Orders returns what carries out the orders of operators.
func Orders(conn *bus.Conn, accounts authsvc.AccountStore, authority *trust.Authority) *orders.Handler {
	trail := trust.NewAuditTrail(conn, "/authsvc/operator")
	return &orders.Handler{
		Operator:     authsvc.NewOperator(accounts, authority.Revoke, time.Now),
		UpdateKeys:   authority.ChangeKeys,
		CloseOldRule: authority.CloseOldRule,
		Audit:        func(ctx context.Context, e authsvc.Entry) error { return trail.Write(ctx, e.What, e) },
		EndRides:     endRides(conn),
	}
}

// endRides returns what has the rides of a deleted account end.
func endRides(conn *bus.Conn) func(context.Context, string, token.Role) error {
	return func(ctx context.Context, account string, role token.Role) error {
		return leaving.EndRides(ctx, conn, account, booking.Role(role))
	}
}

// answer returns a task that answers NATS requests for the key set and for service tokens, and the
// orders of operators.
func (b *Base) answer(services *authsvc.ServiceTokens, handler *orders.Handler) program.Task {
	return func(ctx context.Context) error {
		stop, err := trust.ServeAuth(b.Conn, program.Release, b.published,
			func(ctx context.Context, r trust.ServiceRequest) (string, error) {
				// a token of the wrong time would look like a wrong clock of the other service
				if err := b.Clock.Right(); err != nil {
					return "", err
				}
				return services.Token(ctx, r)
			}, func(ctx context.Context, data []byte) ([]byte, error) {
				var o orders.Order
				if err := json.Unmarshal(data, &o); err != nil {
					return nil, orders.ErrUnknown.Because(err)
				}
				out, err := handler.Do(ctx, o)
				if err != nil {
					return nil, err
				}
				return json.Marshal(out)
			})
		if err != nil {
			return err
		}
		<-ctx.Done()
		return stop()
	}
}
