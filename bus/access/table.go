package access

import (
	"slices"
	"strings"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
)

// A Grant is one row of the table: what one client may do. The server rejects everything else.
type Grant struct {
	Who       string   // the client's name, and that of its key
	Account   string   // its NATS account: accounts see of each other only what they export
	Publish   []string // subjects, or patterns of them
	Subscribe []string
	Answers   bool // it may publish to the reply subject of each request that it receives
}

// The names of Pillion's own processes. Each has its own key.
const (
	Authsvc  = "authsvc"
	Usersvc  = "usersvc"
	Ridersvc = "ridersvc"
	Operator = "operator" // administers streams
	Callout  = "callout"  // authsvc again, in the account of the callout
	Watcher  = "watcher"  // clients without credentials, in demo mode
)

// Table returns the permissions of Pillion's own processes, and of watchers in demo mode. [Of]
// returns those of users and riders.
func Table() []Grant {
	return []Grant{authsvc(), usersvc(), ridersvc(), operator(), callout(), watcher()}
}

// Of returns the permissions of the holder of an access token: to subscribe to the feed of their
// own bookings. ok is false for a role that may not connect.
func Of(role booking.Role, id string) (g Grant, ok bool) {
	g = Grant{Who: id, Account: PeopleAccount, Subscribe: []string{inbox(id)}}
	switch role {
	case booking.User:
		g.Subscribe = append(g.Subscribe, bus.FeedOfUser(id))
	case booking.Rider:
		g.Subscribe = append(g.Subscribe, bus.FeedOfRider(id))
	default:
		return Grant{}, false
	}
	return g, true
}

// authsvc manages accounts, sessions and keys. It writes no events.
func authsvc() Grant {
	return grant(Authsvc, AuthsvcAccount,
		bucket(bus.AccountsBucket, bus.SessionsBucket, bus.KeysBucket, bus.RevocationsBucket,
			bus.LimitsBucket, bus.FamiliarBucket),
		verifies(),
		// to find an account by its id, and to bind what an older version has stored
		publish(api("DIRECT.GET", bus.BucketStream(bus.AccountsBucket)),
			api("DIRECT.GET", bus.BucketStream(bus.SessionsBucket))),
		publish(bus.AuditPattern, bus.JWKSSubject, bus.UserRidesSubject, bus.RiderRidesSubject,
			api("STREAM.INFO", bus.LedgerStream), api("STREAM.INFO", bus.AuditStream)),
		subscribe(bus.PublicKeySubject, bus.JWKSSubject, bus.ServiceTokenSubject, bus.OrderSubject, "$SRV.>"),
		answers(),
	)
}

// usersvc writes the events of users and of deadlines that have passed, and publishes the feed.
func usersvc() Grant {
	return grant(Usersvc, UsersvcAccount,
		appends(booking.Requested, booking.Cancelled, booking.Rated, booking.Expired),
		bookings(bus.ExpiriesConsumer),
		bucket(bus.TurnsBucket), // one instance publishes the feed
		// how full they are
		publish(api("STREAM.INFO", bus.QuarantineStream), api("STREAM.INFO", bus.TimersStream)),
		// where the feed of the version before has ended
		publish(api("CONSUMER.INFO", bus.LedgerStream, bus.FormerFeedConsumer)),
		publish(bus.FeedBookingPattern, bus.FeedUserPattern, bus.FeedRiderPattern),
		// authsvc asks for the bookings of an account before it deletes it
		subscribe(bus.UserRidesSubject),
		answers(),
	)
}

// ridersvc writes the events of riders, and releases bookings whose rider does not come. Only it
// marks a rider as engaged.
func ridersvc() Grant {
	return grant(Ridersvc, RidersvcAccount,
		appends(booking.Accepted, booking.Arrived, booking.Started, booking.StartRefused, booking.Completed,
			booking.Released, booking.RiderRated),
		publish(bus.EngagedPattern, bus.FleetPattern, bus.FeedOpenPattern),
		bucket(bus.RidersBucket),
		bookings(bus.ReleasesConsumer),
		subscribe(bus.RiderRidesSubject),
		answers(),
	)
}

// operator administers streams and reads everything. The events it writes are of kinds that no
// service may write.
//
// No client may subscribe to the subjects of a stream, not even the operator. Only the operator may
// create consumers. A consumer delivers to any subject that it names, but only while a client has
// subscribed to exactly that subject: without such a subscription none can write into a stream.
func operator() Grant {
	return grant(Operator, Account,
		appends(booking.OperatorCancelled, booking.OperatorReleased),
		publish("$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$JS.SNAPSHOT.>", "$SRV.>",
			bus.PublicKeySubject, bus.JWKSSubject, bus.ServiceTokenSubject, bus.OrderSubject, bus.UserRidesSubject,
			bus.RiderRidesSubject, bus.AuditPattern, bus.QuarantinePattern),
		publish(each(bus.BucketPattern, bus.AccountsBucket, bus.SessionsBucket, bus.KeysBucket, bus.RevocationsBucket,
			bus.LimitsBucket, bus.FamiliarBucket, bus.RidersBucket, bus.TurnsBucket)...),
		subscribe("_INBOX.>", "booking.>", "rider.>", "kv.>", "feed.>", "fleet.>", "$JS.EVENT.>", "$JS.SNAPSHOT.>"),
	)
}

// callout answers authentication requests, and closes connections whose token was revoked.
func callout() Grant {
	return grant(Callout, CalloutAccount,
		subscribe(CalloutSubject),
		publish(ConnectionsSubject("*"), KickSubject("*")),
		answers(),
	)
}

// watcher sees the demo feed, which contains no tokens, and the public keys.
func watcher() Grant {
	return Grant{
		Who: Watcher, Account: WatchAccount,
		Publish:   []string{bus.PublicKeySubject, bus.JWKSSubject},
		Subscribe: []string{"booking.>", "_INBOX.>"},
	}
}

// The subjects of the account of the callout.
const (
	CalloutSubject = "$SYS.REQ.USER.AUTH" // where servers send authentication requests
	AllServers     = "PING"               // in place of a server's id
)

// ConnectionsSubject is where a server, or [AllServers], answers requests for its connections.
func ConnectionsSubject(server string) string { return "$SYS.REQ.SERVER." + server + ".CONNZ" }

// KickSubject is where a server takes requests to close a connection.
func KickSubject(server string) string { return "$SYS.REQ.SERVER." + server + ".KICK" }

// bookings lets usersvc and ridersvc read the ledger, and act for the system when a timer of their
// consumer fires.
func bookings(timers string) right {
	return all(
		verifies(),
		reads(bus.LedgerStream),
		// Snapshots of boards are a cache that the services own: they also delete old ones.
		bucket(bus.BoardsBucket),
		reads(bus.BucketStream(bus.BoardsBucket)),
		publish(api("STREAM.PURGE", bus.BucketStream(bus.BoardsBucket))),
		takes(bus.TimersStream, timers),
		publish(bus.TimerPattern, bus.QuarantinePattern, bus.ServiceTokenSubject),
		subscribe(bus.FleetPattern),
	)
}

// A right adds permissions to a grant.
type right func(*Grant)

// grant returns a row with the given rights and an inbox.
func grant(who, account string, rights ...right) Grant {
	g := Grant{Who: who, Account: account, Subscribe: []string{inbox(who)}}
	all(rights...)(&g)
	for _, list := range []*[]string{&g.Publish, &g.Subscribe} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return g
}

func all(rights ...right) right {
	return func(g *Grant) {
		for _, r := range rights {
			r(g)
		}
	}
}

func publish(subjects ...string) right {
	return func(g *Grant) { g.Publish = append(g.Publish, subjects...) }
}

func subscribe(subjects ...string) right {
	return func(g *Grant) { g.Subscribe = append(g.Subscribe, subjects...) }
}

func answers() right { return func(g *Grant) { g.Answers = true } }

// appends allows writing events of the given kinds.
func appends(kinds ...booking.Kind) right { return publish(each(bus.EventPattern, kinds...)...) }

// reads allows reading streams: single messages from the leader, any from a replica, and what is
// new as NATS republishes it.
func reads(streams ...string) right {
	return func(g *Grant) {
		for _, s := range streams {
			g.Publish = append(g.Publish, api("STREAM.INFO", s), api("STREAM.MSG.GET", s), api("DIRECT.GET", s))
			g.Subscribe = append(g.Subscribe, bus.LiveSubjects(s)...)
		}
	}
}

// verifies allows what verification of tokens needs: reading the keys and revocations, and checking
// whether all streams exist.
func verifies() right {
	return all(
		reads(bus.BucketStream(bus.KeysBucket), bus.BucketStream(bus.RevocationsBucket)),
		publish(api("STREAM.INFO", bus.BucketStream(bus.TurnsBucket))),
	)
}

// bucket allows reading buckets by key, and writing them.
func bucket(buckets ...string) right {
	return func(g *Grant) {
		for _, b := range buckets {
			s := bus.BucketStream(b)
			g.Publish = append(g.Publish, bus.BucketPattern(b), api("STREAM.INFO", s), api("STREAM.MSG.GET", s))
		}
	}
}

// takes allows consuming from an existing consumer.
func takes(stream, consumer string) right {
	return all(
		publish(api("CONSUMER.INFO", stream, consumer), api("CONSUMER.MSG.NEXT", stream, consumer),
			"$JS.ACK."+stream+"."+consumer+".>"),
	)
}

// api returns the subject of a JetStream API call.
func api(call string, tokens ...string) string {
	return "$JS.API." + strings.Join(append([]string{call}, tokens...), ".")
}

// inbox returns the subjects on which a client receives replies.
func inbox(who string) string { return bus.InboxPrefix(who) + ".>" }

func each[T any](subject func(T) string, names ...T) []string {
	var subjects []string
	for _, n := range names {
		subjects = append(subjects, subject(n))
	}
	return subjects
}
