package wiring

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/callout"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// newKeyBits is the size of a key that is made because there is none.
const newKeyBits = 2048

// Accounts are where accounts are kept, and what it takes to have them there.
type Accounts struct {
	authsvc.AccountStore
	Prepare func(context.Context) error // makes the table, where there is one; of kind fault.Unavailable while that has to wait
	Close   func()
	Checks  []web.Check // what it needs to be ready
}

// Auth returns authsvc, which closes the accounts when it is done with them. The first private key is read here, if there is one. What NATS
// is answered with is in the folder natsKeys, or made there.
func (b *Base) Auth(s setting.Keys, h setting.HTTP, accounts Accounts, natsKeys string) (Part, error) {
	secret, err := access.LoadCalloutSecret(natsKeys)
	if err != nil {
		return Part{}, err
	}
	door, err := callout.New(callout.Config{
		Conn: b.Of(access.Callout).Conn, Secret: secret, Verifier: b.Verifier, Keys: b.Keys, Revocations: b.Revoked, Watch: b.Revoked,
		Log: b.Log.With("service", "authsvc"), Registerer: b.Registry,
	})
	if err != nil {
		return Part{}, err
	}
	b = b.Of("authsvc")
	ring := authsvc.NewKeyRing(s.KeyFile(), newKeyBits)
	if _, _, err := ring.First(); err != nil { // a bad file is told before anything else is done
		return Part{}, err
	}
	keys := timedKeys{b.Keys, b.Clock}
	signer := authsvc.NewSigner(ring, keys, token.IssuerConfig{Life: s.JWTExpiry.Value})
	services := authsvc.NewSigner(ring, keys, token.IssuerConfig{Life: s.Service.Value, Type: token.ServiceType})
	passwords, err := authsvc.NewPasswords(authsvc.PasswordsConfig{})
	if err != nil {
		return Part{}, fmt.Errorf("make the password hasher: %w", err)
	}
	limits := authsvc.DefaultLimits()
	limits.Account.Free, limits.Address.Free, limits.Registrations.Free = s.LoginLimit.Value, s.AddressLimit.Value, s.AddressLimit.Value
	guard, err := authsvc.NewGuard(authsvc.GuardConfig{
		Counters: b.Conn.Bucket(bus.LimitsBucket), Familiar: b.Conn.Bucket(bus.FamiliarBucket), Limits: limits,
	})
	if err != nil {
		return Part{}, err
	}
	trail := trust.NewAuditTrail(b.Conn, "/authsvc")
	audit := func(ctx context.Context, e authsvc.Entry) { trail.Offer(ctx, e.What, e) }
	serviceTokens := authsvc.NewServiceTokens(s.ServicesDir(), services, audit, time.Now)
	keeper, err := authsvc.NewKeyKeeper(authsvc.KeeperConfig{
		Ring: ring, Keys: keys, LedgerAge: b.Conn.LedgerAge,
		Change: func(ctx context.Context, change func(*token.KeySet, time.Time) (*token.KeySet, error)) (was, is *token.KeySet, err error) {
			return trust.ChangeKeys(ctx, b.Conn, change)
		},
		Elsewhere: func(ctx context.Context) (bool, error) { return trust.AuthAnswers(ctx, b.Conn) },
		Age:       s.KeyAge.Value, Retention: s.Retention.Value,
		Audit: audit, Log: b.Log.With("service", "authsvc"), Registerer: b.Registry,
	})
	if err != nil {
		return Part{}, err
	}
	service, err := authsvc.New(authsvc.Config{
		Accounts:  accounts.AccountStore,
		Sessions:  b.Conn.Bucket(bus.SessionsBucket),
		Rules:     authsvc.SessionRules{Life: s.Life.Value, Idle: offAtZero(s.Idle.Value), Grace: offAtZero(s.Grace.Value)},
		Revoke:    func(ctx context.Context, r token.Revocation) error { return trust.Revoke(ctx, b.Conn, r) },
		Verifier:  b.Verifier,
		Issuer:    signer,
		Keys:      b.published,
		Passwords: passwords,
		Withdraw: func(ctx context.Context, account string, role token.Role) error {
			return b.Conn.Withdraw(ctx, account, booking.Role(role))
		},
		Bereave: func(ctx context.Context, account string, role token.Role) error {
			return b.Conn.Bereave(ctx, account, booking.Role(role))
		},
		Clock: b.Clock.Right,
		Guard: guard,
		Audit: audit,

		ApproveRiders: s.Approve.On,
		CookiePath:    s.CookiePath.Value,

		Demo:       s.Demo.On,
		Log:        b.Log.With("service", "authsvc"),
		Registerer: b.Registry,

		TrustedProxies: h.TrustedProxies.Value,
		Rate:           web.Rate{PerMinute: h.RequestLimit.Value},
	})
	if err != nil {
		return Part{}, err
	}
	var prepared atomic.Bool
	keysInPlace := make(chan struct{})
	prepare := func(ctx context.Context) error {
		if err := b.persist(ctx, "looking for the signing key", keeper.Prepare); err != nil {
			return err
		}
		if ctx.Err() == nil {
			close(keysInPlace)
		}
		if err := b.persist(ctx, "making the accounts' table", accounts.Prepare); err != nil {
			return err
		}
		if err := b.persist(ctx, "making the demo accounts", service.SeedDemo); err != nil {
			return err
		}
		if s.Demo.On {
			// Each of the two hashes took 19 MiB. Without this a program at rest would hold on to them for minutes, and they are
			// more than all the rest of it.
			debug.FreeOSMemory()
		}
		prepared.Store(ctx.Err() == nil)
		return nil
	}
	return Part{
		Handler: service.Routes(),
		Tasks: []program.Task{trail.Run, door.Run, after(keysInPlace, b.answer(serviceTokens)), after(keysInPlace, keeper.Run), prepare, func(ctx context.Context) error {
			<-ctx.Done() // no request is under way any more
			accounts.Close()
			return nil
		}},
		Checks: append(accounts.Checks, []web.Check{
			{Name: "accounts", Ready: func(context.Context) error {
				if !prepared.Load() {
					return errors.New("the key and the demo accounts are not in place yet")
				}
				return nil
			}},
			{Name: "signing key", Ready: func(context.Context) error { return signer.Ready() }},
		}...),
	}, nil
}

// timedKeys are keys that cannot be told while the clock cannot be gone by: which of them signs, and which can be thrown away, is a matter of time.
type timedKeys struct {
	authsvc.KeySets
	clock *trust.Clock
}

// KeySet answers token.ErrClock, too.
func (k timedKeys) KeySet() (*token.KeySet, time.Time, error) {
	if err := k.clock.Right(); err != nil {
		return nil, time.Time{}, err
	}
	return k.KeySets.KeySet()
}

// offAtZero returns what authsvc takes for a limit that is off, where the setting is 0, and the setting elsewhere.
func offAtZero(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// published is the set of keys that verifiers use, or nil while there is none. It comes from where they get it, so that every
// instance of authsvc publishes the same one.
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

// after returns a task that begins when begin is closed.
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

// answer answers NATS requests for the keys, and for the tokens of our own services, until ctx ends.
func (b *Base) answer(services *authsvc.ServiceTokens) program.Task {
	return func(ctx context.Context) error {
		stop, err := trust.ServeAuth(b.Conn, program.Release, b.published, func(ctx context.Context, r trust.ServiceRequest) (string, error) {
			if err := b.Clock.Right(); err != nil { // or the others would be told that it is theirs
				return "", err
			}
			return services.Token(ctx, r)
		})
		if err != nil {
			return err
		}
		<-ctx.Done()
		return stop()
	}
}
