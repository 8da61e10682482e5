package trust_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
)

// A trusting is a process that watches keys and revocations, with an anchor, a log and counters of
// its own.
type trusting struct {
	keys     *trust.KeyWatch
	revoked  *trust.RevocationWatch
	log      wait.Journal
	registry *prometheus.Registry
}

// newTrusting starts a process that trusts the public half in a file.
func newTrusting(t *testing.T, e *bustest.Env, file string) *trusting {
	t.Helper()
	p := &trusting{registry: prometheus.NewRegistry()}
	anchor, err := trustkey.LoadAnchor(file, p.registry)
	if err != nil {
		t.Fatal(err)
	}
	conn := e.ConnectWith(t, bus.Config{Log: slog.New(slog.NewTextHandler(&p.log, nil))})
	p.keys = trust.NewKeyWatch(conn, anchor, time.Second, new(trust.Epoch))
	p.revoked = trust.NewRevocationWatch(conn, anchor, new(trust.Epoch))
	bustest.Running(t, p.keys.Run)
	bustest.Running(t, p.revoked.Run)
	return p
}

func (p *trusting) ready(t *testing.T) error {
	return errors.Join(p.keys.Ready(t.Context()), p.revoked.Ready(t.Context()))
}

func (p *trusting) awaitReady(t *testing.T) {
	t.Helper()
	wait.Until(t, "the process is ready", func() bool { return p.ready(t) == nil })
}

// refusals returns how many documents the process has refused.
func (p *trusting) refusals(t *testing.T, kind trustkey.Kind) float64 {
	t.Helper()
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "pillion_untrusted_documents_total" && m.GetLabel()[0].GetValue() == string(kind) {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("nothing is counted of %s", kind)
	return 0
}

// A forged is what somebody has stored who can write the buckets, and is not the trust key's owner.
type forged struct {
	what, subject string
	kind          trustkey.Kind
	value         []byte
	header        nats.Header
}

// trustFolder returns a folder with a trust key, the key and the file of its public half.
func trustFolder(t *testing.T) (file string, key *trustkey.Key, public string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, trustkey.KeyFile)
	key, err := trustkey.LoadOrCreate(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, key, filepath.Join(dir, trustkey.AnchorFile)
}

// TestWhatTheTrustKeyHasNotSigned writes key sets and revocations straight into their buckets:
// unsigned ones, one signed by another key, an older one again, and one by a former trust key.
// Every process refuses them, logs and counts that, and is not ready meanwhile.
func TestWhatTheTrustKeyHasNotSigned(t *testing.T) {
	bustest.Virtual(t, testWhatTheTrustKeyHasNotSigned)
}

func testWhatTheTrustKeyHasNotSigned(t *testing.T, e *bustest.Env) {
	file, former, public := trustFolder(t)
	if err := trustkey.Replace(file); err != nil {
		t.Fatal(err)
	}
	key, err := trustkey.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := trustkey.New()
	if err != nil {
		t.Fatal(err)
	}
	conn := e.Connect(t)
	authority := trust.NewAuthority(conn, key, "")
	bucket := conn.Bucket(bus.KeysBucket)
	mine, theirs := publicKey(t), publicKey(t)
	set := func(k token.Key) func(*token.KeySet, time.Time) (*token.KeySet, error) {
		return func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
			if set == nil {
				return token.FirstSet(k, now)
			}
			return set.WithNext(k, now)
		}
	}
	change := func(do func(*token.KeySet, time.Time) (*token.KeySet, error)) []byte {
		t.Helper()
		if _, _, err := authority.ChangeKeys(t.Context(), do); err != nil {
			t.Fatal(err)
		}
		stored, _, err := bucket.Get(t.Context(), bus.JWKSKey)
		if err != nil {
			t.Fatal(err)
		}
		return stored
	}
	old := change(set(mine))
	good := change(set(publicKey(t)))
	forgedSet, err := token.FirstSet(theirs, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signed := func(k *trustkey.Key, kind trustkey.Kind, d trustkey.Document) []byte {
		t.Helper()
		raw, err := k.Sign(kind, d)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(raw)
	}
	later := time.Now().Add(time.Hour).UnixMilli()
	theirSet := trustkey.Document{Subject: bus.JWKSKey, Version: later, Body: forgedSet.JWKS()}
	keysSubject := bucket.Subject(bus.JWKSKey)
	session, account := booking.NewID(), booking.NewID()
	revocations := conn.Bucket(bus.RevocationsBucket)
	body := fmt.Appendf(nil, `{"v":1,"at":%q}`, time.Now().Format(time.RFC3339Nano))
	revoke := trustkey.Document{Subject: "s." + session, Body: body}
	forgeries := []forged{
		{"an unsigned set", keysSubject, trustkey.KeySet, forgedSet.JWKS(), nil},
		{"a set of another key", keysSubject, trustkey.KeySet,
			signed(foreign, trustkey.KeySet, theirSet), nil},
		{"a set of the former trust key", keysSubject, trustkey.KeySet,
			signed(former, trustkey.KeySet, theirSet), nil},
		{"an older set", keysSubject, trustkey.KeySet, old, nil},
		{"a deleted set", keysSubject, trustkey.KeySet, nil, nats.Header{bus.HeaderOperation: {"DEL"}}},
		{"an unsigned revocation", revocations.Subject("s." + session), trustkey.Revocation, body, nil},
		{"a revocation of another key", revocations.Subject("s." + session), trustkey.Revocation,
			signed(foreign, trustkey.Revocation, revoke), nil},
		{"a revocation of the former trust key", revocations.Subject("s." + session), trustkey.Revocation,
			signed(former, trustkey.Revocation, revoke), nil},
		{"another session's revocation", revocations.Subject("s." + booking.NewID()), trustkey.Revocation,
			signed(key, trustkey.Revocation, revoke), nil},
		{"nonsense", revocations.Subject(fmt.Sprintf("a.%s.%d", account, time.Now().Unix())), trustkey.Revocation,
			[]byte("nonsense"), nil},
	}
	p := newTrusting(t, e, public)
	p.awaitReady(t)
	for _, f := range forgeries {
		counted := p.refusals(t, f.kind)
		lines := strings.Count(p.log.String(), "refused")
		ledgertest.Store(t, conn, &nats.Msg{Subject: f.subject, Data: f.value, Header: f.header})
		wait.Until(t, f.what+": the process is not ready", func() bool { return errors.Is(p.ready(t), trust.ErrUntrusted) })
		wait.Until(t, f.what+" is counted and logged", func() bool {
			return p.refusals(t, f.kind) > counted && strings.Count(p.log.String(), "refused") > lines
		})
		got, _, err := p.keys.KeySet()
		if err != nil {
			t.Errorf("%s: %v", f.what, err)
		} else if _, there := got.Lookup(theirs.ID); there {
			t.Errorf("%s: the forged key is believed", f.what)
		}
		if n := p.revoked.Len(); n != 0 {
			t.Errorf("%s: %d revocations are believed", f.what, n)
		}
		if f.kind == trustkey.KeySet {
			ledgertest.Store(t, conn, &nats.Msg{Subject: f.subject, Data: good})
		} else if s, err := conn.JetStream().Stream(t.Context(), revocations.Stream()); err != nil {
			t.Error(err)
		} else if err := s.Purge(t.Context()); err != nil {
			t.Error(err)
		}
		p.awaitReady(t)
	}
	// What the trust key signs is believed as ever.
	sid := booking.NewID()
	if err := authority.Revoke(t.Context(), token.Revocation{Session: sid, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "a revocation is known", func() bool {
		_, ok := p.revoked.Revoked("", sid, time.Now())
		return ok
	})
}

// TestARefusedKeySetDoesNotStayInUse keeps a set in the bucket that is not the trust key's: it may
// conceal that a key was retired.
func TestARefusedKeySetDoesNotStayInUse(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		conn := e.Connect(t)
		w := ledgertest.WatchKeys(t, e.Connect(t), time.Hour, new(trust.Epoch))
		if _, _, err := bustest.Authority(conn).ChangeKeys(t.Context(),
			func(_ *token.KeySet, now time.Time) (*token.KeySet, error) {
				return token.FirstSet(publicKey(t), now)
			}); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "the set is known", func() bool { return w.Ready(t.Context()) == nil })
		ledgertest.Store(t, conn, &nats.Msg{Subject: conn.Bucket(bus.KeysBucket).Subject(bus.JWKSKey), Data: []byte("{}")})
		wait.Until(t, "nothing is verified any more", func() bool {
			_, _, err := w.KeySet()
			return errors.Is(err, trust.ErrKeysLost)
		})
	})
}

// TestAuthsvcMends overwrites, deletes and forges what authsvc has published. It puts everything
// back, also when it has been stopped meanwhile.
func TestAuthsvcMends(t *testing.T) {
	bustest.Virtual(t, testAuthsvcMends)
}

func testAuthsvcMends(t *testing.T, e *bustest.Env) {
	_, key, public := trustFolder(t)
	conn := e.Connect(t)
	record := filepath.Join(t.TempDir(), "published.jwt")
	authority := trust.NewAuthority(conn, key, record)
	first := publicKey(t)
	var older []byte
	for range 2 {
		change := func(set *token.KeySet, now time.Time) (_ *token.KeySet, err error) {
			if set == nil {
				return token.FirstSet(first, now)
			}
			if older, _, err = conn.Bucket(bus.KeysBucket).Get(t.Context(), bus.JWKSKey); err != nil {
				return nil, err
			}
			return set.WithNext(publicKey(t), now)
		}
		if _, _, err := authority.ChangeKeys(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	session := booking.NewID()
	at := time.Now().Truncate(time.Microsecond)
	if err := authority.Revoke(t.Context(), token.Revocation{Session: session, At: at}); err != nil {
		t.Fatal(err)
	}
	p := newTrusting(t, e, public)
	p.awaitReady(t)
	bustest.Running(t, func(ctx context.Context) error { return authority.Mend(ctx, p.keys, p.revoked) })
	keys, revocations := conn.Bucket(bus.KeysBucket), conn.Bucket(bus.RevocationsBucket)
	put := func(b *bus.Bucket, name string, value string, header nats.Header, right func([]byte, error) bool) {
		t.Helper()
		ledgertest.Store(t, conn, &nats.Msg{Subject: b.Subject(name), Data: []byte(value), Header: header})
		wait.Until(t, name+" is put right", func() bool {
			data, _, err := b.Get(t.Context(), name)
			return right(data, err) && p.ready(t) == nil
		})
	}
	ours := func(kind trustkey.Kind, name string) func([]byte, error) bool {
		return func(data []byte, err error) bool {
			_, own, refused := key.Open(kind, name, data)
			return err == nil && refused == nil && own
		}
	}
	never := "s." + booking.NewID()
	put(keys, bus.JWKSKey, `{"keys":[]}`, nil, ours(trustkey.KeySet, bus.JWKSKey))
	put(keys, bus.JWKSKey, "", nats.Header{bus.HeaderOperation: {"DEL"}}, ours(trustkey.KeySet, bus.JWKSKey))
	put(keys, bus.JWKSKey, string(older), nil, func(data []byte, err error) bool {
		return ours(trustkey.KeySet, bus.JWKSKey)(data, err) && !bytes.Equal(data, older)
	})
	put(revocations, "s."+session, `{"v":1}`, nil, ours(trustkey.Revocation, "s."+session))
	put(revocations, "s."+session, "", nats.Header{bus.HeaderOperation: {"DEL"}}, ours(trustkey.Revocation, "s."+session))
	put(revocations, never, `{"v":1}`, nil, func(_ []byte, err error) bool { return errors.Is(err, bus.ErrNoKey) })
	put(revocations, "nonsense", `{"v":1}`, nil, func(_ []byte, err error) bool { return errors.Is(err, bus.ErrNoKey) })

	late := newTrusting(t, e, public)
	late.awaitReady(t)
	set, _, err := late.keys.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := set.Lookup(first.ID); !ok {
		t.Error("the key is lost")
	}
	if as, ok := late.revoked.Revoked("", session, time.Now()); !ok || !as.Equal(at) || late.revoked.Len() != 1 {
		t.Errorf("the session is revoked as of %v (%v), want %v; there are %d revocations", as, ok, at, late.revoked.Len())
	}
}

// TestAnOlderAuthsvcOpensNothing has the first authsvc of a system close the old rule, and an older
// one, which does not know of that, publish the keys again. Who knows better does not believe it,
// and authsvc publishes what it knows: a running one at once, another one when it starts.
func TestAnOlderAuthsvcOpensNothing(t *testing.T) {
	bustest.Virtual(t, testAnOlderAuthsvcOpensNothing)
}

func testAnOlderAuthsvcOpensNothing(t *testing.T, e *bustest.Env) {
	_, key, public := trustFolder(t)
	conn := e.Connect(t)
	for range 3 {
		ledgertest.Store(t, conn, ledgertest.Message(booking.ID(booking.NewID()), 1, booking.Requested,
			booking.Actor{ID: booking.NewID(), Role: booking.User}, "of a system whose keys were lost"))
	}
	record := filepath.Join(t.TempDir(), "published.jwt")
	same := func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
		if set == nil {
			return token.FirstSet(publicKey(t), now)
		}
		return set, nil
	}
	authority := trust.NewAuthority(conn, key, record)
	_, set, err := authority.ChangeKeys(t.Context(), same)
	if err != nil {
		t.Fatal(err)
	}
	closed := func(s *token.KeySet) bool {
		until, closed := s.OldRuleUntil()
		return closed && until == 3
	}
	if !closed(set) {
		t.Fatal("the first key set does not close the rule at the ledger's end")
	}
	p := newTrusting(t, e, public)
	p.awaitReady(t)
	bucket := conn.Bucket(bus.KeysBucket)
	older := func(ahead time.Duration) { // of the version before, which may be of the same moment
		t.Helper()
		body, _, _ := bytes.Cut(set.JWKS(), []byte(`,"old_rule_until"`))
		raw, err := key.Sign(trustkey.KeySet, trustkey.Document{Subject: bus.JWKSKey,
			Version: time.Now().Add(ahead).UnixMilli(), Body: append(bytes.Clone(body), '}')})
		if err != nil {
			t.Fatal(err)
		}
		ledgertest.Store(t, conn, &nats.Msg{Subject: bucket.Subject(bus.JWKSKey), Data: []byte(raw)})
	}
	stored := func() *token.KeySet {
		t.Helper()
		raw, _, err := bucket.Get(t.Context(), bus.JWKSKey)
		if err != nil {
			t.Fatal(err)
		}
		d, _, err := key.Open(trustkey.KeySet, bus.JWKSKey, raw)
		if err != nil {
			t.Fatal(err)
		}
		s, err := token.ParseJWKS(d.Body)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	older(time.Second)
	if closed(stored()) {
		t.Fatal("the older authsvc knows of the rule")
	}
	wait.Until(t, "the process notices", func() bool { return strings.Contains(p.log.String(), "less of the old rule") })
	known, _, err := p.keys.KeySet()
	if err != nil || !closed(known) || p.ready(t) != nil {
		t.Errorf("the process believes it: %v, %v", err, p.ready(t))
	}
	next := trust.NewAuthority(conn, key, record) // another process of authsvc
	if _, is, err := next.ChangeKeys(t.Context(), same); err != nil || !closed(is) || !closed(stored()) {
		t.Errorf("an authsvc that starts does not close the rule again: %v", err)
	}
	older(time.Minute)
	bustest.Running(t, func(ctx context.Context) error { return authority.Mend(ctx, p.keys, p.revoked) })
	wait.Until(t, "a running authsvc closes the rule again", func() bool { return closed(stored()) })
	p.awaitReady(t)
}

// TestWhatAnOperatorSignsIsRecorded has an operator with the trust key change the keys while
// authsvc is away. authsvc records that when it starts, so that a forger who then overwrites it
// does not undo it.
func TestWhatAnOperatorSignsIsRecorded(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		_, key, _ := trustFolder(t)
		conn := e.Connect(t)
		record := filepath.Join(t.TempDir(), "published.jwt")
		first, second := publicKey(t), publicKey(t)
		change := func(record string, do func(*token.KeySet, time.Time) (*token.KeySet, error)) *token.KeySet {
			t.Helper()
			_, is, err := trust.NewAuthority(conn, key, record).ChangeKeys(t.Context(), do)
			if err != nil {
				t.Fatal(err)
			}
			return is
		}
		start := func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
			if set == nil {
				return token.FirstSet(first, now)
			}
			return set, nil
		}
		change(record, start)
		change("", func(set *token.KeySet, now time.Time) (*token.KeySet, error) { return set.WithNext(second, now) })
		change(record, start)
		ledgertest.Store(t, conn, &nats.Msg{Subject: conn.Bucket(bus.KeysBucket).Subject(bus.JWKSKey), Data: []byte("{}")})
		if _, there := change(record, start).Lookup(second.ID); !there {
			t.Error("what the operator has signed is undone")
		}
	})
}

// The ends of the old rule that were known when a board was made, and are now, give the same
// verdicts on its messages if both are behind it, or the same.
func TestSameOldRule(t *testing.T) {
	at := func(seq uint64) *uint64 { return &seq }
	for _, c := range []struct {
		then, now *uint64
		want      bool
	}{
		{nil, nil, true}, {nil, at(10), true}, {nil, at(11), true}, {nil, at(9), false}, {at(12), at(10), true},
		{at(12), at(9), false}, {at(5), at(5), true}, {at(5), at(4), false}, {at(0), at(0), true}, {at(9), nil, false},
	} {
		if got := trust.SameOldRule(c.then, c.now, 10); got != c.want {
			t.Errorf("then %v, now %v: %v", c.then, c.now, got)
		}
	}
}

// TestAuthsvcAdopts starts authsvc on the data of a build without a trust key. It signs them, once:
// an unsigned key set or revocation that is there later is not signed at any other start.
func TestAuthsvcAdopts(t *testing.T) {
	_, key, _ := trustFolder(t)
	e := bustest.Run(t)
	conn := e.Connect(t)
	keys, revocations := conn.Bucket(bus.KeysBucket), conn.Bucket(bus.RevocationsBucket)
	now := time.Now()
	first, theirs := publicKey(t), publicKey(t)
	unsigned := func(k token.Key) []byte {
		set, err := token.FirstSet(k, now)
		if err != nil {
			t.Fatal(err)
		}
		return set.JWKS()
	}
	at := now.Add(-time.Minute).UTC().Truncate(time.Microsecond)
	body := fmt.Appendf(nil, `{"v":1,"at":%q}`, at.Format(time.RFC3339Nano))
	session, later := "s."+booking.NewID(), "s."+booking.NewID()
	put := func(b *bus.Bucket, name string, value []byte) {
		t.Helper()
		ledgertest.Store(t, conn, &nats.Msg{Subject: b.Subject(name), Data: value})
	}
	put(keys, bus.JWKSKey, unsigned(first))
	put(revocations, session, body)
	record := filepath.Join(t.TempDir(), "published.jwt")
	start := func(key *trustkey.Key) *token.KeySet {
		t.Helper()
		a := trust.NewAuthority(conn, key, record)
		if err := a.Adopt(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, set, err := a.ChangeKeys(t.Context(), func(set *token.KeySet, _ time.Time) (*token.KeySet, error) {
			return set, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	signed := func(key *trustkey.Key, name string) bool {
		t.Helper()
		value, _, err := revocations.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		_, own, err := key.Open(trustkey.Revocation, name, value)
		return err == nil && own
	}
	if _, ok := start(key).Lookup(first.ID); !ok {
		t.Error("the key set of the older build is lost")
	}
	if !signed(key, session) {
		t.Error("a revocation of the older build is not signed")
	}
	put(keys, bus.JWKSKey, unsigned(theirs))
	put(revocations, later, body)
	if _, ok := start(key).Lookup(theirs.ID); ok {
		t.Error("an unsigned key set is signed at another start")
	}
	if signed(key, later) {
		t.Error("an unsigned revocation is signed at another start")
	}

	// A successor signs what the former key has signed.
	file, former, _ := trustFolder(t)
	record = filepath.Join(t.TempDir(), "published.jwt")
	if err := revocations.Erase(t.Context(), later, revision(t, revocations, later)); err != nil {
		t.Fatal(err)
	}
	put(keys, bus.JWKSKey, unsigned(first))
	put(revocations, session, body)
	start(former)
	if err := trustkey.Replace(file); err != nil {
		t.Fatal(err)
	}
	successor, err := trustkey.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := start(successor).Lookup(first.ID); !ok || !signed(successor, session) {
		t.Error("the successor has not signed what there was")
	}

	// Another instance has not been restarted yet.
	late := trust.NewAuthority(conn, former, "")
	late.Anchor = former.Anchor()
	if err := late.Revoke(t.Context(), token.Revocation{Session: booking.NewID(), At: now}); err != nil {
		t.Errorf("before it has met the successor: %v", err)
	}
	if err := late.Anchor.Accept(successor); err != nil {
		t.Fatal(err)
	}
	if err := late.Revoke(t.Context(), token.Revocation{Session: booking.NewID(), At: now}); !errors.Is(err,
		trust.ErrReplaced) || !errors.Is(late.Ready(t.Context()), trust.ErrReplaced) {
		t.Errorf("it signs with a former key: %v", err)
	}
}

func revision(t *testing.T, b *bus.Bucket, key string) uint64 {
	t.Helper()
	_, revision, err := b.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}
