package token

import (
	"errors"
	"time"

	"github.com/example/pillion/internal/fault"
)

// The errors of Verify and VerifyAt. Match them with errors.Is. Reason returns the metric label.
var (
	// ErrInvalid refuses an invalid token, for good. The client does not learn why: see Reason.
	ErrInvalid = fault.New(fault.Forbidden, "invalid_token", "Invalid token")
	// ErrExpired is the ErrInvalid of a token whose time is over: its holder can get another one.
	// Only this reason has a code of its own, because it helps nobody who forges tokens.
	ErrExpired = fault.New(fault.Forbidden, "token_expired", "Invalid token")
	// ErrNoKeys means that there has never been a key set.
	ErrNoKeys = fault.New(fault.Unavailable, "keys_unavailable",
		"Tokens cannot be verified yet: the signing keys have not arrived. Please try again.").After(time.Second)
	// ErrNoRevocations means that the revocations are missing or too old.
	ErrNoRevocations = fault.New(fault.Unavailable, "revocations_unavailable",
		"Tokens cannot be verified at the moment: the list of revoked tokens is unavailable. Please try again.").
		After(time.Second)
	// ErrClock means that Config.Clock does not trust this machine's clock.
	ErrClock = fault.New(fault.Unavailable, "clock_off",
		"The clock of this server is wrong at the moment. Please try again in a few seconds.").After(5 * time.Second)
	// ErrUndecided means that the verdict depends on a newer key set, or newer revocations: ask
	// again. Verify returns it, with the context's error as its cause, if its context ends while it
	// waits for keys.
	ErrUndecided = fault.New(fault.Unavailable, "key_undecided",
		"This server does not know the token's key yet. Please try again.").After(time.Second)
)

// errKeysBehind is the cause of an ErrUndecided that a newer key set will decide.
var errKeysBehind = errors.New("the key set is not known to be complete as of then")

// The errors of the constructors and the issuer. The cause has the details.
var (
	// ErrSettings refuses an invalid configuration.
	ErrSettings = fault.New(fault.Invalid, "token_settings", "The token settings are invalid. Correct those named.")
	// ErrKey refuses a key for signing and verifying.
	ErrKey = fault.New(fault.Invalid, "key_refused",
		"The key is refused. Use an RSA key of 2048, 3072 or 4096 bits with exponent 65537.")
	// ErrKeySet refuses a whole key set, including its valid keys.
	ErrKeySet = fault.New(fault.Invalid, "key_set_refused",
		"The key set is refused. Publish it as this package writes it.")
	// ErrGrant refuses a grant whose token no verifier would accept.
	ErrGrant = fault.New(fault.Invalid, "grant_refused", "No token can be issued for this. Correct what is named.")
	// ErrRevocation refuses an invalid revocation.
	ErrRevocation = fault.New(fault.Invalid, "revocation_refused", "The revocation is invalid. Correct what is named.")
)

// A reason is why a token was refused, as a metric label.
type reason string

const (
	malformed      reason = "malformed"       // not a token by the grammar
	wrongType      reason = "type"            // typ is another kind of token
	algorithm      reason = "algorithm"       // alg is not RS256
	unknownKey     reason = "unknown_key"     // kid names no key of the set
	signature      reason = "signature"       // the signature is not by that key
	expired        reason = "expired"         // exp has passed
	notYetValid    reason = "not_yet_valid"   // iat or nbf is in the future
	lifetime       reason = "lifetime"        // exp - iat is not in (0, MaxLife]
	issuer         reason = "issuer"          // iss is not ours
	audience       reason = "audience"        // aud is not ours
	role           reason = "role"            // role is none of ours
	retiredKey     reason = "retired_key"     // iat is after the key retired
	compromisedKey reason = "compromised_key" // its key was compromised
	revokedToken   reason = "revoked"         // the token was revoked
	oldRule        reason = "old_rule"        // it is in an event behind KeySet.OldRuleUntil
	noKeys         reason = "no_keys"         // ErrNoKeys
	noRevocations  reason = "no_revocations"  // ErrNoRevocations
	clockOff       reason = "clock"           // ErrClock
	undecided      reason = "undecided"       // ErrUndecided
)

// RefusalReasons returns what Reason returns for an ErrInvalid.
func RefusalReasons() (all []string) {
	for _, r := range []reason{malformed, wrongType, algorithm, unknownKey, signature, expired, notYetValid, lifetime,
		issuer, audience, role, retiredKey, compromisedKey, revokedToken, oldRule} {
		all = append(all, string(r))
	}
	return all
}

// reasons returns all reasons.
func reasons() []string {
	return append(RefusalReasons(), string(noKeys), string(noRevocations), string(clockOff), string(undecided))
}

// A refusal is the cause of an ErrInvalid. Its detail quotes nothing of the token.
type refusal struct {
	reason reason
	detail string
}

func (r *refusal) Error() string { return string(r.reason) + ": " + r.detail }

// refuse returns an ErrInvalid for a reason, which is also an ErrExpired if that is the reason.
func refuse(r reason, detail string) error {
	err := ErrInvalid.Because(&refusal{r, detail})
	if r == expired {
		return ErrExpired.Because(err)
	}
	return err
}

// Reason returns why a token was refused, as a metric label: malformed, type, algorithm,
// unknown_key, signature, expired, not_yet_valid, lifetime, issuer, audience, role, retired_key,
// compromised_key, revoked, old_rule, no_keys, no_revocations, clock or undecided. It is "" for
// nil, and undecided for an error of another package.
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
