package token

import (
	"errors"
	"time"

	"github.com/example/pillion/internal/fault"
)

// What Verify and VerifyAt answer. Match them with errors.Is, and ask Reason for the metric label.
var (
	// ErrInvalid is a token that does not verify, for good. The client is not told why; Reason is for us.
	ErrInvalid = fault.New(fault.Forbidden, "invalid_token", "Invalid token")
	// ErrNoKeys is that there has never been a key set, so nothing can be said of any token.
	ErrNoKeys = fault.New(fault.Unavailable, "keys_unavailable",
		"Tokens cannot be checked yet, because the signing keys have not arrived. Please try again.").After(time.Second)
	// ErrNoRevocations is that nobody has said, ever or lately, which tokens were taken back, so no request can be let in.
	ErrNoRevocations = fault.New(fault.Unavailable, "revocations_unavailable",
		"Tokens cannot be checked at the moment, because it is not known which ones were revoked. Please try again.").After(time.Second)
	// ErrClock is that this machine's clock cannot be gone by, so it is not known what has run out. It is answered as long as Config.Clock does.
	ErrClock = fault.New(fault.Unavailable, "clock_off",
		"The clock of this server is not right at the moment. Please try again in a few seconds.").After(5 * time.Second)
	// ErrUndecided is that the answer depends on a key set, or on revocations, newer than what is at hand: ask again. Besides
	// VerifyAt, a Verify whose context ends while it waits for keys answers it, with the context's error as its cause.
	ErrUndecided = fault.New(fault.Unavailable, "key_undecided",
		"The token's key is not known here yet. Please try again.").After(time.Second)
)

// errKeysBehind is why nothing can be said of an event whose key may have been retired or compromised by then.
var errKeysBehind = errors.New("the key set is not known to be complete as of then")

// What the constructors and the issuer answer, each with the particulars as its cause.
var (
	// ErrSettings is a configuration that cannot work.
	ErrSettings = fault.New(fault.Invalid, "token_settings", "The token settings cannot be used. Correct the ones named.")
	// ErrKey is a key that is not allowed to sign or to verify here.
	ErrKey = fault.New(fault.Invalid, "key_refused", "The key is refused. Use an RSA key of 2048, 3072 or 4096 bits with exponent 65537.")
	// ErrKeySet is a key set that is not taken as a whole, not even for its good keys.
	ErrKeySet = fault.New(fault.Invalid, "key_set_refused", "The key set is refused. Publish it as this package writes it.")
	// ErrGrant is a grant that no verifier would accept, so no token is signed for it.
	ErrGrant = fault.New(fault.Invalid, "grant_refused", "No token can be issued for this. Correct what is named.")
	// ErrRevocation is a revocation that cannot be meant.
	ErrRevocation = fault.New(fault.Invalid, "revocation_refused", "This cannot be revoked as asked. Correct what is named.")
)

// A reason is why a token was refused: a metric label.
type reason string

const (
	malformed      reason = "malformed"       // not a token by the grammar
	wrongType      reason = "type"            // typ is another kind of token
	algorithm      reason = "algorithm"       // alg is not RS256
	unknownKey     reason = "unknown_key"     // kid names no key of the set
	signature      reason = "signature"       // the signature is not that key's
	expired        reason = "expired"         // exp has passed
	notYetValid    reason = "not_yet_valid"   // iat or nbf is still to come
	lifetime       reason = "lifetime"        // exp - iat is not in (0, MaxLife]
	issuer         reason = "issuer"          // iss is not ours
	audience       reason = "audience"        // aud is not us
	role           reason = "role"            // role is none of ours
	retiredKey     reason = "retired_key"     // iat is after the key retired
	compromisedKey reason = "compromised_key" // others may have signed with its key
	revokedToken   reason = "revoked"         // it was taken back
	noKeys         reason = "no_keys"         // ErrNoKeys
	noRevocations  reason = "no_revocations"  // ErrNoRevocations
	clockOff       reason = "clock"           // ErrClock
	undecided      reason = "undecided"       // ErrUndecided
)

// reasons returns every reason there is.
func reasons() []reason {
	return []reason{malformed, wrongType, algorithm, unknownKey, signature, expired, notYetValid, lifetime, issuer, audience, role,
		retiredKey, compromisedKey, revokedToken, noKeys, noRevocations, clockOff, undecided}
}

// A refusal is the cause of an ErrInvalid. Its detail is written here and never holds anything of the token.
type refusal struct {
	reason reason
	detail string
}

func (r *refusal) Error() string { return string(r.reason) + ": " + r.detail }

// refuse returns an ErrInvalid for a reason.
func refuse(r reason, detail string) error {
	return ErrInvalid.Because(&refusal{r, detail})
}

// Reason returns why a token was refused, as a metric label of few values: malformed, type, algorithm, unknown_key, signature,
// expired, not_yet_valid, lifetime, issuer, audience, role, retired_key, compromised_key, revoked, no_keys, no_revocations, clock or undecided. It is ""
// for nil, and undecided for an error that is none of this package's.
func Reason(err error) string {
	var r *refusal
	switch {
	case err == nil:
		return ""
	case errors.As(err, &r):
		return string(r.reason)
	case errors.Is(err, ErrNoKeys):
		return string(noKeys)
	case errors.Is(err, ErrNoRevocations):
		return string(noRevocations)
	case errors.Is(err, ErrClock):
		return string(clockOff)
	case errors.Is(err, ErrInvalid):
		return string(malformed)
	}
	return string(undecided)
}
