package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/internal/secretfile"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
)

// An Authority publishes what verifiers judge tokens by, signed with the trust key: the key set and
// revocations. authsvc is one, and so is an operator who holds the trust key.
type Authority struct {
	// Anchor is this process's. The authority signs nothing once it has met a successor of the
	// key: everybody would refuse it. nil: it does not look.
	Anchor *trustkey.Anchor

	conn   *bus.Conn
	key    *trustkey.Key
	record string
}

// NewAuthority returns an authority that signs with a key.
//
// record is the file in which authsvc keeps the last key set that it has published. With it the
// authority replaces what is in the bucket and is not the trust key's. If there is no such file it
// has never published, and believes what is in the bucket. An empty record does neither.
func NewAuthority(c *bus.Conn, key *trustkey.Key, record string) *Authority {
	return &Authority{conn: c, key: key, record: record}
}

// Ready returns nil, or ErrReplaced once the key has a successor.
func (a *Authority) Ready(context.Context) error {
	if a.Anchor != nil && !a.Anchor.Trusts(a.key) {
		return ErrReplaced
	}
	return nil
}

const (
	// changePatience is how long one change of the set is retried, part of token.ChangeDelay.
	changePatience = 5 * time.Second
	maxRecord      = 1 << 20 // bytes
	mendPace       = 200 * time.Millisecond
)

// ErrReplaced says that another authsvc signs with a successor of this one's trust key.
var ErrReplaced = fault.New(fault.Unavailable, "trust_key_replaced",
	"This authsvc has a trust key that was replaced, and must be restarted. Please try again in a moment.",
).After(time.Second)

// ErrKeySetRefused says that the stored key set is not the trust key's.
var ErrKeySetRefused = fault.New(fault.Conflict, "key_set_untrusted",
	"The trust key has not signed the key set in NATS, or has signed a newer one. Start authsvc, which replaces it.")

// ChangeKeys changes the set that every verifier watches. It calls change with the current set, or
// nil, and the time by the server's clock, and stores the set that change returns, unless that is
// the same. It returns the old and the new set. Where another process was faster, it calls change
// again. Errors: those of change, ErrKeySetRefused, ErrReplaced, and of kind fault.Unavailable.
func (a *Authority) ChangeKeys(
	ctx context.Context, change func(set *token.KeySet, now time.Time) (*token.KeySet, error),
) (was, is *token.KeySet, err error) {
	if err := a.conn.EverConnected(); err != nil {
		return nil, nil, err
	}
	if err := a.Ready(ctx); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, changePatience)
	defer cancel()
	var written *token.KeySet // by the last try, perhaps
	p := bus.Retries(changePatience)
	p.When = mayPass
	err = p.Do(ctx, func() error {
		have, err := a.keySet(ctx)
		if err == nil && written != nil && have.set != nil && bytes.Equal(have.set.JWKS(), written.JWKS()) {
			is = written // the last try was stored
			return nil
		}
		if err == nil {
			was, written = have.set, nil
			if is, err = change(have.set, have.now); err != nil {
				return retry.Permanent(err)
			}
			// No token was signed before the first set of all, so every writer has event
			// tokens. On a new system the ledger is empty, too.
			if have.set == nil {
				is, err = a.CloseOldRule(ctx, is)
			}
			if err != nil {
				return err
			}
			if is == have.set && have.good {
				if err := a.keep(have.unrecorded); err != nil { // perhaps another instance can
					a.conn.Log().Debug("cannot record what an operator has published", "error", err)
				}
				return nil
			}
			written = is
			err = a.storeKeySet(ctx, have, is)
		}
		return err
	})
	switch {
	case err == nil:
		return was, is, nil
	case errors.Is(err, bus.ErrStale), // others keep changing it
		ctx.Err() != nil && errors.Is(err, context.Cause(ctx)): // or this machine is too slow
		return nil, nil, bus.ErrUnavailable.Because(fmt.Errorf("change the key set: %w", err))
	}
	return nil, nil, err
}

// CloseOldRule returns the set with the old rule ended at the end of the ledger. Errors are of kind
// fault.Unavailable.
func (a *Authority) CloseOldRule(ctx context.Context, set *token.KeySet) (*token.KeySet, error) {
	stream, err := a.conn.Stream(ctx, bus.LedgerStream)
	if err != nil {
		return nil, bus.Unavailable("look at the ledger", err)
	}
	return set.CloseOldRule(stream.CachedInfo().State.LastSeq), nil
}

// mayPass reports whether a guarded write is worth another try.
func mayPass(err error) bool { return errors.Is(err, bus.ErrStale) || retry.Unavailable(err) }

// A storedKeySet is the key set as an authority finds it.
type storedKeySet struct {
	set      *token.KeySet // nil: there is none
	version  int64
	good     bool   // it is in the bucket, and verifiers believe it
	revision uint64 // of what is in the bucket
	now      time.Time
	// what is in the bucket, where that is newer than the record; nil: it is not
	unrecorded []byte
}

// keySet returns the present set, from the leader or, where that is not the trust key's, from the
// record.
func (a *Authority) keySet(ctx context.Context) (storedKeySet, error) {
	bucket := a.conn.Bucket(bus.KeysBucket)
	stream, err := a.conn.Stream(ctx, bucket.Stream())
	if err != nil {
		return storedKeySet{}, bus.Unavailable("look at the key set", err)
	}
	data, revision, err := bucket.Get(ctx, bus.JWKSKey)
	none := errors.Is(err, bus.ErrNoKey)
	if err != nil && !none {
		return storedKeySet{}, err
	}
	have, published, err := a.recorded()
	if err != nil {
		return storedKeySet{}, err
	}
	have.revision, have.now = revision, stream.CachedInfo().TimeStamp
	if none {
		return have, nil
	}
	last := have.set // recorded, if any
	stored, own, err := a.key.Open(trustkey.KeySet, bus.JWKSKey, data)
	switch {
	case err == nil && stored.Version >= have.version:
		if stored.Version > have.version {
			have.unrecorded = data
		}
		have.version, have.good, data = stored.Version, own, stored.Body
	case published:
		return have, nil
	case a.record == "":
		return storedKeySet{}, ErrKeySetRefused.Because(err)
	default:
		data = believed(trustkey.KeySet, bus.JWKSKey, data)
	}
	set, err := token.ParseJWKS(data)
	if err != nil {
		return storedKeySet{}, fmt.Errorf("read the key set: %w", err)
	}
	have.set = keepingClosed(last, set)
	have.good = have.good && have.set == set
	return have, nil
}

// believed returns the body of what was stored under a key, by an older build or by the holder of a
// trust key that was lost.
func believed(kind trustkey.Kind, key string, stored []byte) []byte {
	if d, err := trustkey.Unverified(kind, key, stored); err == nil {
		return d.Body
	}
	return stored
}

// recorded returns the set that was published last, and whether there is a record of one.
func (a *Authority) recorded() (storedKeySet, bool, error) {
	if a.record == "" {
		return storedKeySet{}, false, nil
	}
	data, err := secretfile.Read(a.record, maxRecord)
	if errors.Is(err, secretfile.ErrNotThere) {
		return storedKeySet{}, false, nil
	}
	if err != nil {
		return storedKeySet{}, false, fmt.Errorf("read the record of the published keys: %w", err)
	}
	d, _, err := a.key.Open(trustkey.KeySet, bus.JWKSKey, data)
	if err != nil {
		return storedKeySet{}, false, trustkey.ErrKey.Sayingf("The trust key has not signed %s. "+
			"Restore the key from a copy; docs/operate-accounts.md says what to do without one.", a.record).Because(err)
	}
	set, err := token.ParseJWKS(d.Body)
	return storedKeySet{set: set, version: d.Version}, true, err
}

// storeKeySet stores a set over another one, signed, and records it.
func (a *Authority) storeKeySet(ctx context.Context, over storedKeySet, set *token.KeySet) error {
	// Versions are times, so that they rise even where the one before is lost.
	version := max(over.version+1, over.now.UnixMilli())
	doc, err := a.key.Sign(trustkey.KeySet, trustkey.Document{
		Subject: bus.JWKSKey, Version: version, Body: set.JWKS(),
	})
	if err != nil {
		return err
	}
	_, err = a.conn.Bucket(bus.KeysBucket).Update(ctx, bus.JWKSKey, []byte(doc), over.revision)
	if err != nil {
		return err
	}
	return a.keep([]byte(doc))
}

// keep records a document as the last one that was published.
func (a *Authority) keep(doc []byte) error {
	if a.record == "" || doc == nil {
		return nil
	}
	if err := secretfile.Replace(a.record, doc, 0o600); err != nil {
		return fmt.Errorf("write the record of the published keys: %w", err)
	}
	return nil
}

// HasPublished reports whether there is a record of a key set that authsvc has published.
func (a *Authority) HasPublished() bool {
	_, err := os.Stat(a.record)
	return !errors.Is(err, os.ErrNotExist)
}

// Adopt signs the revocations that are not the trust key's: those that a former trust key has
// signed, and, as long as nothing was ever published, all others. Call it before the first
// ChangeKeys, which does the same with the key set. It may be repeated.
func (a *Authority) Adopt(ctx context.Context) error {
	b, first := a.conn.Bucket(bus.RevocationsBucket), !a.HasPublished()
	set, _, err := a.conn.Bucket(bus.KeysBucket).Get(ctx, bus.JWKSKey)
	if err != nil && !errors.Is(err, bus.ErrNoKey) {
		return err
	}
	if _, _, err := a.key.Open(trustkey.KeySet, bus.JWKSKey, set); err == nil {
		first = false // the record is in another folder, or was lost
	}
	names, err := b.Keys(ctx)
	if err != nil {
		return err
	}
	for _, key := range names {
		value, revision, err := b.Get(ctx, key)
		if errors.Is(err, bus.ErrNoKey) {
			continue
		}
		if err != nil {
			return err
		}
		r, ok := revocationOf(key)
		if !ok {
			continue
		}
		d, own, err := a.key.Open(trustkey.Revocation, key, value)
		switch {
		case err == nil && own:
			continue
		case err == nil:
			value = d.Body
		case !first:
			continue // verifiers refuse it
		default:
			value = believed(trustkey.Revocation, key, value)
		}
		var record revocationRecord
		if err := json.Unmarshal(value, &record); err != nil || record.Version != revocationVersion {
			continue
		}
		r.At = record.At
		if value, err = a.sealed(key, r); err != nil {
			return err
		}
		if _, err := b.Update(ctx, key, value, revision); err != nil && !errors.Is(err, bus.ErrStale) {
			return err
		}
	}
	return nil
}

// Mend stores again what the watches know and somebody has overwritten, until ctx ends, and then
// returns nil. What never was the trust key's it removes.
func (a *Authority) Mend(ctx context.Context, keys *KeyWatch, revoked *RevocationWatch) error {
	log := a.conn.Log()
	tick := time.NewTicker(mendPace)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if a.Ready(ctx) != nil {
			continue // the successor's holder does
		}
		if errors.Is(keys.Ready(ctx), ErrUntrusted) || keys.forgotten() {
			tell(log, "the key set", a.republish(ctx, keys))
		}
		for key, sequence := range revoked.refusals() {
			tell(log, "revocation "+key, a.mend(ctx, revoked, key, sequence))
		}
	}
}

func tell(log *slog.Logger, what string, err error) {
	if err != nil {
		log.Warn("cannot put right what is not the trust key's yet", "what", what, "error", err)
		return
	}
	log.Warn("put right what was not the trust key's", "what", what)
}

// republish stores the key set again unless it is there, with the end of the old rule that a watch
// knows.
func (a *Authority) republish(ctx context.Context, keys *KeyWatch) error {
	_, _, err := a.ChangeKeys(ctx, func(set *token.KeySet, _ time.Time) (*token.KeySet, error) {
		if set == nil {
			return nil, token.ErrNoKeys
		}
		return keepingClosed(keys.known.Load().set, set), nil
	})
	return err
}

// mend restores one revocation.
func (a *Authority) mend(ctx context.Context, revoked *RevocationWatch, key string, sequence uint64) error {
	b := a.conn.Bucket(bus.RevocationsBucket)
	r, ok := revocationOf(key)
	if ok {
		r.At, ok = revoked.knows(r)
	}
	if !ok {
		return b.Erase(ctx, key, sequence)
	}
	value, err := a.sealed(key, r)
	if err == nil {
		_, err = b.Update(ctx, key, value, sequence)
	}
	return err
}
