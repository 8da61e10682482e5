package trustkey

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/example/pillion/internal/fault"
)

// A Kind of document is the typ of its JWT, so that none is taken for another.
type Kind string

// The kinds of documents.
const (
	KeySet     Kind = "pillion-keys+jwt"
	Revocation Kind = "pillion-revocation+jwt"
	succession Kind = "pillion-trust+jwt"
)

const (
	headerKind        = "typ"
	headerKey         = "kid"
	headerSuccessions = "succession"
)

// A Document is what a trust key signs.
type Document struct {
	Subject string // what it is about: its key in its bucket
	// Version rises with each document about the subject. 0: they have no order.
	Version int64
	Body    []byte // JSON
}

// claims are a Document as the claims of a JWT.
type claims struct {
	jwt.RegisteredClaims
	Version int64           `json:"ver,omitempty"`
	Body    json.RawMessage `json:"doc"`
}

// Reasons to refuse a document.
var (
	errUnsigned = errors.New("it is not a signed document of its kind")
	errForeign  = errors.New("another key than the trust key has signed it")
	errFormer   = errors.New("a former trust key has signed it")
	errOther    = errors.New("it was signed for another place")
	errOlder    = errors.New("an older one was stored again")
)

// A header is what the header of a document says.
type header struct {
	key         string
	successions []string
}

// parse verifies a document with the key that keyOf returns. Without keyOf it verifies nothing.
func parse(kind Kind, raw string, keyOf func(header) (ed25519.PublicKey, error)) (Document, error) {
	var c claims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithoutClaimsValidation())
	check := func(t *jwt.Token) (any, error) {
		h, err := headerOf(kind, t)
		if err != nil || keyOf == nil {
			return nil, err
		}
		return keyOf(h)
	}
	var err error
	if keyOf == nil {
		var t *jwt.Token
		if t, _, err = parser.ParseUnverified(raw, &c); err == nil {
			_, err = check(t)
		}
	} else {
		_, err = parser.ParseWithClaims(raw, &c, check)
	}
	for _, known := range []error{errForeign, errFormer} {
		if errors.Is(err, known) {
			return Document{}, known
		}
	}
	if err != nil {
		return Document{}, fmt.Errorf("%w: %w", errUnsigned, err)
	}
	return Document{c.Subject, c.Version, c.Body}, nil
}

// Unverified returns a document about a subject, whoever has signed it. It is for the first start
// with a new key, which has to believe what there is.
func Unverified(kind Kind, subject string, raw []byte) (Document, error) {
	d, err := parse(kind, string(raw), nil)
	if err == nil && d.Subject != subject {
		err = errOther
	}
	if err != nil {
		return Document{}, err
	}
	return d, nil
}

// headerOf returns the header of a document of a kind.
func headerOf(kind Kind, t *jwt.Token) (header, error) {
	var h header
	for name, value := range t.Header {
		switch name {
		case "alg": // the parser has checked it
		case headerKind:
			if value != string(kind) {
				return header{}, errUnsigned
			}
		case headerKey:
			h.key, _ = value.(string)
		case headerSuccessions:
			list, _ := value.([]any)
			for _, s := range list {
				text, _ := s.(string)
				h.successions = append(h.successions, text)
			}
		default:
			return header{}, errUnsigned
		}
	}
	if _, ok := t.Header[headerKind]; !ok || len(h.successions) > maxSuccessions {
		return header{}, errUnsigned
	}
	return h, nil
}

// succession returns the key that has signed the document, and the successor that it names.
func (d Document) succession() (of, successor ed25519.PublicKey, err error) {
	var n named
	if err := json.Unmarshal(d.Body, &n); err != nil {
		return nil, nil, err
	}
	if len(n.Of) != ed25519.PublicKeySize || len(n.Successor) != ed25519.PublicKeySize {
		return nil, nil, errors.New("it names no key")
	}
	return n.Of, n.Successor, nil
}

// An Anchor is what a process trusts: the trust key, by its public half, and its successors. It
// refuses a former key from the first document on that a successor has signed, and each document
// that is older than one that it has opened. It forgets both when the process ends. It is safe for
// concurrent use.
type Anchor struct {
	path    string
	refused *prometheus.CounterVec

	mu     sync.Mutex
	key    ed25519.PublicKey // nil: the file is not there yet
	former map[string]bool   // the ids of former keys
	opened map[string]version
}

// A version is the newest document about a subject.
type version struct {
	number int64
	sum    [sha256.Size]byte
}

// LoadAnchor reads the public half of the trust key from a file. If there is no such file yet, the
// anchor opens nothing before [Anchor.Await] has found it. The Registerer is optional. Errors are
// of kind fault.Invalid.
func LoadAnchor(path string, r prometheus.Registerer) (*Anchor, error) {
	a := newAnchor(r)
	a.path = path
	if err := a.Ready(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return a, nil
}

// Ready returns nil once the anchor has its key, and reads the file if it has not. Its error names
// the file and the remedy.
func (a *Anchor) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.key != nil {
		return nil
	}
	data, err := os.ReadFile(a.path)
	if err != nil {
		return ErrAnchor.Sayingf("The public half of the trust key, %s, cannot be read: %s. "+
			"`pillion keys init` creates it; or copy %s from authsvc, or name the file with --trust.",
			a.path, fault.Reason(err), AnchorFile).Because(err)
	}
	if a.key, err = publicKey(data); err != nil {
		return ErrAnchor.Sayingf("%s does not hold the public half of the trust key. "+
			"Copy %s from authsvc, or name the file with --trust.", a.path, AnchorFile).Because(err)
	}
	return nil
}

// Await waits until the anchor is ready, or ctx ends.
func (a *Anchor) Await(ctx context.Context) error {
	const pace = 200 * time.Millisecond
	for a.Ready() != nil {
		select {
		case <-time.After(pace):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func publicKey(data []byte) (ed25519.PublicKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != publicBlock || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("it is not one public key in PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("its key is not of Ed25519")
	}
	return key, nil
}

func newAnchor(r prometheus.Registerer) *Anchor {
	a := &Anchor{former: map[string]bool{}, opened: map[string]version{}}
	a.refused = promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Namespace: "pillion", Name: "untrusted_documents_total",
		Help: "Documents that were refused because the trust key has not signed them as they are, by kind.",
	}, []string{"kind"})
	for _, kind := range []Kind{KeySet, Revocation} {
		a.refused.WithLabelValues(string(kind))
	}
	return a
}

// Anchor returns an anchor that trusts the key.
func (k *Key) Anchor() *Anchor {
	a := newAnchor(nil)
	a.key = public(k.private)
	return a
}

// Accept returns nil if the anchor would open what a key signs: the key is the trusted one, or its
// successor, which is then the trusted one.
func (a *Anchor) Accept(k *Key) error {
	const subject = "anything"
	raw, err := k.Sign(KeySet, Document{Subject: subject, Body: []byte("{}")})
	if err == nil {
		err = a.Ready()
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err = a.open(KeySet, subject, []byte(raw))
	return err
}

// Trusts reports whether a key is the trusted one, and has no successor that the anchor knows.
func (a *Anchor) Trusts(k *Key) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return public(k.private).Equal(a.key)
}

// Open returns the body of a document about a subject, or why it refuses it, and counts that.
func (a *Anchor) Open(kind Kind, subject string, raw []byte) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.key == nil {
		return nil, errForeign
	}
	d, err := a.open(kind, subject, raw)
	if err != nil {
		a.refused.WithLabelValues(string(kind)).Inc()
		return nil, err
	}
	return d.Body, nil
}

func (a *Anchor) open(kind Kind, subject string, raw []byte) (Document, error) {
	key := a.key
	var passed []string // the keys on the way to the present one
	d, err := parse(kind, string(raw), func(h header) (ed25519.PublicKey, error) {
		if a.former[h.key] {
			return nil, errFormer
		}
		for range h.successions {
			if thumbprint(key) == h.key {
				break
			}
			next, ok := successor(key, h.successions)
			if !ok {
				break
			}
			passed = append(passed, thumbprint(key))
			key = next
		}
		if thumbprint(key) != h.key {
			return nil, errForeign
		}
		return key, nil
	})
	if err != nil {
		return Document{}, err
	}
	a.key = key
	for _, id := range passed {
		a.former[id] = true
	}
	if d.Subject != subject {
		return Document{}, errOther
	}
	if d.Version > 0 {
		place, is := string(kind)+" "+subject, version{d.Version, sha256.Sum256(raw)}
		if was := a.opened[place]; was.number > is.number || was.number == is.number && was != is {
			return Document{}, errOlder
		}
		a.opened[place] = is
	}
	return d, nil
}

// successor returns the key that a key has named as its successor, if one of the proofs says so.
func successor(key ed25519.PublicKey, successions []string) (ed25519.PublicKey, bool) {
	for _, s := range successions {
		d, err := parse(succession, s, func(h header) (ed25519.PublicKey, error) {
			if h.key != thumbprint(key) {
				return nil, errForeign
			}
			return key, nil
		})
		if err != nil {
			continue
		}
		if _, next, err := d.succession(); err == nil {
			return next, true
		}
	}
	return nil, false
}
