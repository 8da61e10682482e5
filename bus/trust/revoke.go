package trust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
	"github.com/nats-io/nats.go/jetstream"
)

// revokePatience is how long one revocation is retried. After that its outcome is unknown.
const revokePatience = 5 * time.Second

// Revoke revokes tokens: within a second every service refuses them, requests at once and events by
// their time. It may be repeated: of two revocations of the same tokens the one with the earlier At
// counts, in any order.
//
// Errors: token.ErrRevocation; a fault of kind fault.Unavailable after revokePatience, when the
// outcome is unknown. Then retry with a current At.
func Revoke(ctx context.Context, c *bus.Conn, r token.Revocation) error {
	if err := r.Check(time.Now()); err != nil {
		return err
	}
	if err := c.EverConnected(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, revokePatience)
	defer cancel()
	b := c.Bucket(bus.RevocationsBucket)
	p := bus.Retries(revokePatience)
	p.When = mayPass
	err := p.Do(ctx, func() error { return storeRevocation(ctx, c, b, r) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bus.ErrStale): // others keep revoking the same
		return bus.ErrUnavailable.Because(fmt.Errorf("revoke: %w", err))
	}
	return bus.Unavailable("revoke", err)
}

// A revocationRecord is the value of a revocation. Its key names the session or account.
type revocationRecord struct {
	Version int       `json:"v"`
	At      time.Time `json:"at"`
}

const revocationVersion = 1

// storeRevocation stores a revocation, unless the same one is there with an At that is no later.
func storeRevocation(ctx context.Context, c *bus.Conn, b *bus.Bucket, r token.Revocation) error {
	key := revocationKey(r)
	value, err := json.Marshal(revocationRecord{revocationVersion, r.At.UTC().Truncate(time.Microsecond)})
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	_, err = b.Create(ctx, key, value)
	if !errors.Is(err, bus.ErrKeyExists) {
		return err
	}
	m, err := c.Last(ctx, b.Stream(), b.Subject(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return bus.ErrStale // it has just aged
	}
	if err != nil {
		return bus.Unavailable("read the revocations", err)
	}
	if have, _ := parseRevocation(b, m); have != (token.Revocation{}) && !have.At.After(r.At) {
		return nil
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

// parseRevocation reads a message of the bucket. Where the key is good and the value is not (or is
// in the future), it returns a revocation as of when it was stored, with an error: better one too
// many. Where the key is not good it returns none, with an error.
func parseRevocation(b *bus.Bucket, m bus.Message) (token.Revocation, error) {
	key, ok := strings.CutPrefix(m.Subject, b.Subject(""))
	var r token.Revocation
	if session, is := strings.CutPrefix(key, bus.RevokedSessionPrefix); ok && is {
		r.Session = session
	} else if rest, is := strings.CutPrefix(key, bus.RevokedAccountPrefix); ok && is {
		subject, before, _ := strings.Cut(rest, ".")
		seconds, err := strconv.ParseInt(before, 10, 64)
		if err != nil {
			return token.Revocation{}, errors.New("its key names no time")
		}
		r.Subject, r.NotBefore = subject, time.Unix(seconds, 0).UTC()
	}
	r.At = m.StoredAt
	// Revoke's clock may be ahead of the server's; a second is for rounding
	latest := m.StoredAt.Add(token.ClockLeeway + time.Second)
	if err := r.Check(latest); err != nil {
		return token.Revocation{}, err
	}
	if m.Header.Get(bus.HeaderOperation) != "" {
		return r, errors.New("it was deleted, and stays in force as of then: a revocation cannot be undone")
	}
	var v revocationRecord
	if err := json.Unmarshal(m.Data, &v); err != nil {
		return r, errors.New("its value is not JSON")
	}
	if v.Version != revocationVersion {
		return r, fmt.Errorf("its version is %d", v.Version)
	}
	said := r
	said.At = v.At
	if err := said.Check(latest); err != nil {
		return r, err
	}
	return said, nil
}
