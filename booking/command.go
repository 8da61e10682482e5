package booking

import (
	"fmt"
	"io"
	"log/slog"
)

// A Role is what an actor may be. The names are the wire's: a rider's is the original API's spelling.
type Role string

// The roles.
const (
	User    Role = "user"    // the passenger, who books
	Rider   Role = "raider"  // who drives the bike and accepts
	Service Role = "service" // one of our own processes, acting for the system
)

// An Actor is whoever causes an event.
type Actor struct {
	ID   string
	Role Role
}

// A Command is one wish of one actor, however often it is tried: a retry carries the same ID, and is answered with what the first
// try achieved.
type Command struct {
	ID    CommandID
	Actor Actor
	// Request is a fingerprint of what is asked for, where a retry could ask for something else under the same ID: see [Keyed]. It is carried with
	// each event of the command.
	Request string
	// Proof is the actor's credential. It is opaque here, is carried with each event of the command, and does not show when a
	// Command is printed or logged. Do not print a struct that holds a Command in an unexported field: fmt cannot ask the Command
	// there.
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

// Format writes the command without its proof, whatever the verb: fmt asks String and GoString for some verbs only.
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
		slog.String("id", string(c.ID)),
		slog.String("actor", c.Actor.ID),
		slog.String("role", string(c.Actor.Role)),
	)
}
