package trust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
)

// revokePatience is how long one revocation is retried. After that its outcome is unknown.
const revokePatience = 5 * time.Second

// Revoke revokes tokens: within a second every service refuses them, requests at once and events by
// their time. It may be repeated: of two revocations of the same tokens the one with the earlier At
// counts, in any order.
//
// Errors: token.ErrRevocation; ErrReplaced; a fault of kind fault.Unavailable after revokePatience,
// when the outcome is unknown. Then retry with a current At.
func (a *Authority) Revoke(ctx context.Context, r token.Revocation) error {
	if err := r.Check(time.Now()); err != nil {
		return err
	}
	if err := a.conn.EverConnected(); err != nil {
		return err
	}
	if err := a.Ready(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, revokePatience)
	defer cancel()
	p := bus.Retries(revokePatience)
	p.When = mayPass
	err := p.Do(ctx, func() error { return a.storeRevocation(ctx, r) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bus.ErrStale): // others keep revoking the same
		return bus.ErrUnavailable.Because(fmt.Errorf("revoke: %w", err))
	}
	return bus.Unavailable("revoke", err)
}

// A revocationRecord is the body of a revocation, which is about the key that it is stored under.
type revocationRecord struct {
	Version int       `json:"v"`
	At      time.Time `json:"at"`
}

const revocationVersion = 1

// sealed returns the signed value of a revocation.
func (a *Authority) sealed(key string, r token.Revocation) ([]byte, error) {
	body, err := json.Marshal(revocationRecord{revocationVersion, r.At.UTC().Truncate(time.Microsecond)})
	if err != nil {
		return nil, fmt.Errorf("revoke: %w", err)
	}
	doc, err := a.key.Sign(trustkey.Revocation, trustkey.Document{Subject: key, Body: body})
	return []byte(doc), err
}

// storeRevocation stores a revocation, unless the same one is there with an At that is no later.
func (a *Authority) storeRevocation(ctx context.Context, r token.Revocation) error {
	b, key := a.conn.Bucket(bus.RevocationsBucket), revocationKey(r)
	value, err := a.sealed(key, r)
	if err != nil {
		return err
	}
	_, err = b.Create(ctx, key, value)
	if !errors.Is(err, bus.ErrKeyExists) {
		return err
	}
	m, err := a.conn.Last(ctx, b.Stream(), b.Subject(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return bus.ErrStale // it has just aged
	}
	if err != nil {
		return bus.Unavailable("read the revocations", err)
	}
	d, own, err := a.key.Open(trustkey.Revocation, key, m.Data)
	if err == nil && own {
		if have, err := revocationIn(key, d.Body, m.StoredAt); err == nil && !have.At.After(r.At) {
			return nil
		}
	}
	_, err = b.Update(ctx, key, value, m.Seq)
	return err
}

func revocationKey(r token.Revocation) string {
	if r.Session != "" {
		return bus.RevokedSessionPrefix + r.Session
	}
	return bus.RevokedAccountPrefix + r.Subject + "." + strconv.FormatInt(r.Before(), 10)
}

// revocationOf returns the revocation that a key names, without its At. ok is false for a key that
// names none.
func revocationOf(key string) (r token.Revocation, ok bool) {
	if session, is := strings.CutPrefix(key, bus.RevokedSessionPrefix); is {
		return token.Revocation{Session: session}, true
	}
	rest, is := strings.CutPrefix(key, bus.RevokedAccountPrefix)
	subject, before, _ := strings.Cut(rest, ".")
	seconds, err := strconv.ParseInt(before, 10, 64)
	if !is || err != nil {
		return token.Revocation{}, false
	}
	return token.Revocation{Subject: subject, NotBefore: time.Unix(seconds, 0).UTC()}, true
}

// revocationIn returns the revocation of a key, with the At that the body says.
func revocationIn(key string, body []byte, stored time.Time) (token.Revocation, error) {
	r, ok := revocationOf(key)
	if !ok {
		return token.Revocation{}, errors.New("its key names no tokens")
	}
	var v revocationRecord
	if err := json.Unmarshal(body, &v); err != nil {
		return token.Revocation{}, err
	}
	if v.Version != revocationVersion {
		return token.Revocation{}, fmt.Errorf("its version is %d", v.Version)
	}
	r.At = v.At
	// Revoke's clock may be ahead of the server's; a second is for rounding
	return r, r.Check(stored.Add(token.ClockLeeway + time.Second))
}
