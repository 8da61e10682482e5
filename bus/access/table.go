package access

import (
	"slices"
	"strings"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
)

// A Grant is what somebody may do on NATS: one row of the table. What it does not name is refused.
type Grant struct {
	Who       string // the name of an identity, and of its key
	Account   string // of NATS: nobody sees what goes on in another one, but for what is exported
	Publish   []string
	Subscribe []string
	// NeverPublish takes some of Publish away again, where that is a pattern.
	NeverPublish []string
	// Answers lets it answer the requests that it gets, wherever those want their answer.
	Answers bool
}

// The accounts of NATS.
const (
	SystemAccount  = "SYS"     // the servers' own
	CalloutAccount = "AUTH"    // where NATS asks who somebody is
	Account        = "PILLION" // where everything happens
	WatchAccount   = "WATCH"   // where anybody may watch, in a demonstration
)

// Our own processes, each with a key of its own.
const (
	Authsvc  = "authsvc"
	Usersvc  = "usersvc"
	Ridersvc = "ridersvc"
	Operator = "operator" // who makes streams, and does what nobody else can
	Callout  = "callout"  // authsvc again, where it is asked who somebody is
	Watcher  = "watcher"  // anybody, in a demonstration
)

// Table returns who may do what: our own processes, and anybody who watches a demonstration. The rest is in Of.
func Table() []Grant {
	return []Grant{authsvc(), usersvc(), ridersvc(), operator(), callout(), watcher()}
}

// Of returns what somebody with a token may do: see what happens to their own bookings, and nothing else. ok is false for a role that has
// no business on NATS.
func Of(role booking.Role, id string) (g Grant, ok bool) {
	g = Grant{Who: id, Account: Account, Subscribe: []string{inbox(id)}}
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

// authsvc keeps accounts, sessions and keys, and answers for them. It writes no events.
func authsvc() Grant {
	return grant(Authsvc, Account,
		bucket(bus.AccountsBucket, bus.SessionsBucket, bus.KeysBucket, bus.RevocationsBucket, bus.LimitsBucket, bus.FamiliarBucket),
		verifies(),
		publish(bus.AuditPattern, bus.JWKSSubject, bus.RidesSubject, api("STREAM.INFO", bus.LedgerStream)),
		subscribe(bus.PublicKeySubject, bus.JWKSSubject, bus.ServiceTokenSubject, "$SRV.>"),
		answers(),
	)
}

// usersvc writes what users do, and what the system does by itself, and tells whoever may watch what has happened.
func usersvc() Grant {
	return grant(Usersvc, Account,
		appends(booking.Requested, booking.Cancelled, booking.Rated, booking.Expired, booking.Released),
		rides(),
		takes(bus.LedgerStream, bus.FeedConsumer),
		publish(apis("CONSUMER.UNPIN", bus.LedgerStream, bus.FeedConsumer)...), // an instance that stops leaves its place to another
		publish(bus.FeedBookingPattern, bus.FeedUserPattern, bus.FeedRiderPattern),
		subscribe(bus.RidesSubject), // what becomes of the rides of an account that is to be deleted
		answers(),
	)
}

// ridersvc writes what riders do, and what the system does by itself. Nobody else says that a rider is engaged.
func ridersvc() Grant {
	return grant(Ridersvc, Account,
		appends(booking.Accepted, booking.Arrived, booking.Started, booking.StartRefused, booking.Completed, booking.Released, booking.Rated, booking.Expired),
		publish(bus.EngagedPattern, bus.FleetPattern, bus.FeedOpenPattern),
		bucket(bus.RidersBucket),
		rides(),
	)
}

// operator may do with streams whatever is to be done, and reads everything. It brings bookings to an end that nobody else can, and no
// other event comes from it.
//
// Nobody subscribes to the subjects of a stream, not even the operator, who reads streams and buckets with consumers: a consumer delivers to whatever
// subject it names, but only while somebody has subscribed to that very one, and so none can be made that writes into a stream.
func operator() Grant {
	return grant(Operator, Account,
		appends(booking.Cancelled, booking.Released),
		publish("$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$JS.SNAPSHOT.>", "$SRV.>",
			bus.PublicKeySubject, bus.JWKSSubject, bus.ServiceTokenSubject, bus.RidesSubject, bus.AuditPattern, bus.QuarantinePattern),
		publish(each(bus.BucketPattern, bus.AccountsBucket, bus.SessionsBucket, bus.KeysBucket, bus.RevocationsBucket, bus.LimitsBucket, bus.FamiliarBucket, bus.RidersBucket)...),
		subscribe("_INBOX.>", "booking.>", "feed.>", "fleet.>", "$JS.EVENT.>", "$JS.SNAPSHOT.>"),
	)
}

// callout is asked who somebody is, and ends connections whose token was taken back.
func callout() Grant {
	return grant(Callout, CalloutAccount,
		subscribe(CalloutSubject),
		publish(ConnectionsSubject("*"), KickSubject("*")),
		answers(),
	)
}

// watcher is anybody. It sees what happens, without tokens, and the public keys.
func watcher() Grant {
	return Grant{
		Who: Watcher, Account: WatchAccount,
		Publish:   []string{bus.PublicKeySubject, bus.JWKSSubject},
		Subscribe: []string{"booking.>", "_INBOX.>"},
	}
}

// What NATS asks on, and what it is asked on, in the account of the callout.
const (
	CalloutSubject = "$SYS.REQ.USER.AUTH"
	AllServers     = "PING" // in place of a server's id
)

// ConnectionsSubject is where a server, or AllServers, is asked who is connected.
func ConnectionsSubject(server string) string { return "$SYS.REQ.SERVER." + server + ".CONNZ" }

// KickSubject is where a server is told to end a connection.
func KickSubject(server string) string { return "$SYS.REQ.SERVER." + server + ".KICK" }

// rides is what both services do that have to do with bookings: read the ledger, keep the time, and act by themselves.
func rides() right {
	return all(
		verifies(),
		reads(bus.LedgerStream),
		publish(api("DIRECT.GET", bus.LedgerStream)),
		// Snapshots of boards are a cache, and the services' own: they also throw old ones away.
		bucket(bus.BoardsBucket),
		reads(bus.BucketStream(bus.BoardsBucket)),
		publish(api("STREAM.PURGE", bus.BucketStream(bus.BoardsBucket))),
		takes(bus.LedgerStream, bus.DeadlinesConsumer),
		takes(bus.TimersStream, bus.TimersConsumer),
		publish(bus.TimerPattern, bus.QuarantinePattern, bus.ServiceTokenSubject),
		subscribe(bus.FleetPattern),
		// A consumer that all instances share is the operator's to make and to change.
		never(apis("CONSUMER.CREATE", bus.LedgerStream, bus.DeadlinesConsumer)...),
		never(apis("CONSUMER.CREATE", bus.LedgerStream, bus.FeedConsumer)...),
	)
}

// A right adds to a grant.
type right func(*Grant)

// grant makes a row. Everybody has an inbox.
func grant(who, account string, rights ...right) Grant {
	g := Grant{Who: who, Account: account, Subscribe: []string{inbox(who)}}
	all(rights...)(&g)
	for _, list := range []*[]string{&g.Publish, &g.Subscribe, &g.NeverPublish} {
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

func never(subjects ...string) right {
	return func(g *Grant) { g.NeverPublish = append(g.NeverPublish, subjects...) }
}

func answers() right { return func(g *Grant) { g.Answers = true } }

// appends lets events of those kinds be written.
func appends(kinds ...booking.Kind) right { return publish(each(bus.EventPattern, kinds...)...) }

// reads lets a stream be read: one message by its leader, and all of it with a consumer of one's own.
func reads(streams ...string) right {
	return func(g *Grant) {
		for _, s := range streams {
			g.Publish = append(g.Publish, api("STREAM.INFO", s), api("STREAM.MSG.GET", s), api("CONSUMER.CREATE", s)+".*", "$JS.FC."+s+".>")
		}
	}
}

// verifies is what it takes to verify tokens: the keys, and what was revoked. Whoever does also asks whether the streams are all there.
func verifies() right {
	return all(reads(bus.BucketStream(bus.KeysBucket), bus.BucketStream(bus.RevocationsBucket)), publish(apis("CONSUMER.INFO", bus.LedgerStream, bus.FeedConsumer)...))
}

// bucket lets buckets be read by key, and written.
func bucket(buckets ...string) right {
	return func(g *Grant) {
		for _, b := range buckets {
			s := bus.BucketStream(b)
			g.Publish = append(g.Publish, bus.BucketPattern(b), api("STREAM.INFO", s), api("STREAM.MSG.GET", s))
		}
	}
}

// takes lets a consumer be used that is there already.
func takes(stream, consumer string) right {
	return publish(append(append(apis("CONSUMER.INFO", stream, consumer), apis("CONSUMER.MSG.NEXT", stream, consumer)...), "$JS.ACK."+stream+"."+consumer+".>")...)
}

// api is the subject of a call of JetStream, and apis those of a call about a consumer: with the filter that it may name, too.
func api(call string, tokens ...string) string {
	return "$JS.API." + call + "." + strings.Join(tokens, ".")
}

func apis(call, stream, consumer string) []string {
	subjects := []string{api(call, stream, consumer)}
	if call == "CONSUMER.CREATE" {
		subjects = append(subjects, api(call, stream, consumer, ">"))
	}
	return subjects
}

// inbox is where somebody gets answers.
func inbox(who string) string { return bus.InboxPrefix(who) + ".>" }

func each[T any](subject func(T) string, names ...T) []string {
	var subjects []string
	for _, n := range names {
		subjects = append(subjects, subject(n))
	}
	return subjects
}
