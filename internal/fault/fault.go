// Package fault is Pillion's error type: a kind for programs, a message for people and a cause for
// operators.
//
// A package declares its errors as variables made with [New]. It returns them as they are, or with
// a cause ([Error.Because]), and callers match them with errors.Is. Only package web turns a fault
// into an HTTP answer. An error that is not a fault has kind [Internal]; no client ever sees its
// text.
package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

// A Kind classifies a failure. Programs may decide on the kind and the code, and nothing else.
type Kind uint8

// The kinds. The zero Kind is Internal, so an unclassified error reveals nothing.
const (
	Internal         Kind = iota // our failure; the client learns no more than that
	Malformed                    // the request cannot be parsed
	Invalid                      // a value in the request is not allowed
	Unauthenticated              // no valid credential
	Forbidden                    // the credential does not permit this
	NotFound                     // no such thing, or the caller may not know of it
	Conflict                     // the state of the thing does not permit it
	TooLarge                     // the request exceeds a size limit
	UnsupportedMedia             // the media type of the request is not supported
	Unprocessable                // the idempotency key belongs to another request
	Exhausted                    // the caller has exceeded a limit; retry after RetryAfter
	Unavailable                  // a dependency is unavailable; retry after RetryAfter
)

var kindNames = [...]string{
	"internal", "malformed", "invalid", "unauthenticated", "forbidden", "not_found", "conflict",
	"too_large", "unsupported_media", "unprocessable", "exhausted", "unavailable",
}

// String returns the kind's name in logs and metrics.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// An Error is a failure whose parts have different readers. Treat it as immutable: its methods
// return copies.
type Error struct {
	Kind       Kind
	Code       string        // stable and machine-readable, such as "already_accepted"
	Message    string        // for the person who caused it: what is wrong, and what to do
	Hint       string        // follows Message in problem documents only; empty: none
	RetryAfter time.Duration // when to retry; zero: a retry does not help
	Cause      error         // for operators; never shown to a client
	// Look tells the person how to check whether the request took effect. Empty: it did not.
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

// After returns a copy of e that asks for a retry after d.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Unsure returns a copy of e for a request that may have taken effect. look tells how to check.
func (e *Error) Unsure(look string) *Error {
	c := *e
	c.Look = look
	return &c
}

// Saying returns a copy of e with another message. The copy still matches e with errors.Is.
func (e *Error) Saying(message string) *Error {
	c := *e
	c.Message = message
	return &c
}

// Sayingf is [Error.Saying] with a format, as of fmt.Sprintf.
func (e *Error) Sayingf(format string, args ...any) *Error {
	return e.Saying(fmt.Sprintf(format, args...))
}

// Hinting returns a copy of e with a hint.
func (e *Error) Hinting(hint string) *Error {
	c := *e
	c.Hint = hint
	return &c
}

// Error returns the code, the message and the cause, for logs.
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

// From returns the outermost fault in err's chain, or else ErrInternal with err as its cause. It
// returns nil for nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return ErrInternal.Because(err)
}

// KindOf returns the kind of the outermost fault in err's chain, or Internal if there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// ErrInternal is the answer to a client when the failure is ours.
var ErrInternal = New(Internal, "internal", "Something went wrong on our side. Please try again.")

// Reason returns why an operation on a file or an address failed, in the operating system's words:
// "permission denied", "address already in use". It leaves out the name, which the sentence around
// it says.
func Reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err.Error()
	}
	if e, ok := errors.AsType[*os.SyscallError](err); ok {
		return e.Err.Error()
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
