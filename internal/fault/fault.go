// Package fault is Pillion's one error type: a kind for programs, a sentence for people and a cause for operators.
//
// A package declares the refusals it can give as variables made with [New], returns them as they are or with a cause
// ([Error.Because]), and its callers match them with errors.Is. Only package web turns a fault into an HTTP answer.
// An error that is not a fault has kind [Internal], and nothing of it is ever shown to a client.
package fault

import (
	"errors"
	"time"
)

// A Kind says what sort of failure it is: the only thing a program may decide on besides the code.
type Kind uint8

// The kinds. The zero Kind is Internal, so that an error nobody classified reveals nothing.
const (
	Internal         Kind = iota // ours; the client learns only that it was not theirs
	Malformed                    // the request could not be understood
	Invalid                      // the request was understood and a value in it is not allowed
	Unauthenticated              // no credential, or one that proves nothing
	Forbidden                    // a credential that does not allow this
	NotFound                     // no such thing, or none that this caller may know of
	Conflict                     // the state of the thing does not allow it
	TooLarge                     // the request is over a size limit
	UnsupportedMedia             // the request's media type is not taken here
	Unprocessable                // a key was used again for something else
	Exhausted                    // the caller has used up an allowance; try after RetryAfter
	Unavailable                  // something we need is away; try after RetryAfter
)

var kindNames = [...]string{
	"internal", "malformed", "invalid", "unauthenticated", "forbidden", "not_found", "conflict",
	"too_large", "unsupported_media", "unprocessable", "exhausted", "unavailable",
}

// String returns the kind's name as it appears in logs and metrics.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// An Error is a failure with an audience for each of its parts. Treat it as immutable: Because and After return copies.
type Error struct {
	Kind       Kind
	Code       string        // stable and machine-readable, such as "already_accepted"
	Message    string        // one sentence for the person who caused it, and what to do
	RetryAfter time.Duration // when to try again; zero means that trying again does not help
	Cause      error         // for operators; never shown to a client
	// Look says how to find out whether what was asked for has been done all the same. Empty: it has not been done.
	Look string
}

// New returns a fault without a cause.
func New(kind Kind, code, message string) *Error {
	return &Error{Kind: kind, Code: code, Message: message}
}

// Because returns a copy of e with a cause. The copy still matches e with errors.Is.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// After returns a copy of e that asks to be tried again after d.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Unsure returns a copy of e that says how to find out whether what was asked for has been done.
func (e *Error) Unsure(look string) *Error {
	c := *e
	c.Look = look
	return &c
}

// Saying returns a copy of e with another sentence. The copy still matches e with errors.Is.
func (e *Error) Saying(message string) *Error {
	c := *e
	c.Message = message
	return &c
}

// Error returns the code, the sentence and the cause: the operator's view, for logs.
func (e *Error) Error() string {
	s := e.Code + ": " + e.Message
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is a fault with the same kind and code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Code == e.Code
}

// From returns the outermost fault in err's chain, or a fault of kind Internal that has err as its cause.
// It returns nil for nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return ErrInternal.Because(err)
}

// KindOf returns the kind of the outermost fault in err's chain: Internal where there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// ErrInternal is what a client is told of a failure that is ours.
var ErrInternal = New(Internal, "internal", "Something went wrong on our side. Please try again.")
