package booking

import (
	"fmt"
	"io"
	"log/slog"
)

// A Command is a request of one actor to change a booking. A retry has the same ID, and gets the
// outcome of the first try.
type Command struct {
	ID    CommandID
	Actor Actor
	// Request is a fingerprint of the request, if a retry could ask for something else under the
	// same ID; see [Keyed]. Each event of the command carries it.
	Request string
	// Proof is what proves the actor, and this package does not read it. Each event of the command
	// carries it. It is hidden when a Command is printed or logged. Do not print a struct with a
	// Command in an unexported field: fmt does not call the Command's methods there.
	Proof string `json:"-"`
}

// String returns the command without its proof.
func (c Command) String() string {
	return fmt.Sprintf("command %s by %s %s", c.ID, c.Actor.Role, c.Actor.ID)
}

// GoString returns the command without its proof, for %#v.
func (c Command) GoString() string {
	return fmt.Sprintf("booking.Command{ID:%q, Actor:%#v}", c.ID, c.Actor)
}

// Format writes the command without its proof for every verb. fmt calls String and GoString for
// some verbs only.
func (c Command) Format(f fmt.State, verb rune) {
	if verb == 'v' && f.Flag('#') {
		_, _ = io.WriteString(f, c.GoString())
		return
	}
	_, _ = io.WriteString(f, c.String())
}

// LogValue returns the command without its proof, for log/slog.
func (c Command) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("id", string(c.ID)), slog.String("actor", c.Actor.ID), slog.String("role", string(c.Actor.Role)),
	)
}
