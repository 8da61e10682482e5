package booking

// A Role is the role of an actor, as the wire spells it.
type Role string

// The roles.
const (
	User    Role = "user"    // the passenger, who books
	Rider   Role = "raider"  // the driver, who accepts
	Service Role = "service" // one of our own processes, acting for the system
)

// An Actor is a person or process that causes events.
type Actor struct {
	ID   string
	Role Role
}
