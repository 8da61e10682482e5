package access_test

import (
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/token/tokentest"
)

// Clients with tokens. Ulla is the user, and Rita the rider.
const (
	user  = "user"
	rider = "rider"
)

var everybody = []string{
	access.Authsvc, access.Usersvc, access.Ridersvc, access.Operator, access.Callout, access.Watcher, user, rider,
}

// A cell is an operation on a subject, with all clients that may do it.
type cell struct {
	verb, subject string
	may           []string
}

const (
	pub = "publish"
	sub = "subscribe"
	b   = "bbbbbbbbbbbbbbbbbbbbbbbbbb" // a booking
)

// cells returns the table in transposed form: for each subject, the clients that may use it.
func cells() []cell {
	ours := []string{access.Usersvc, access.Ridersvc}
	all := []string{access.Authsvc, access.Usersvc, access.Ridersvc, access.Operator}
	cs := []cell{
		// The ledger, event by event.
		{pub, "ledger.booking." + b + ".1.requested", []string{access.Usersvc}},
		{pub, "ledger.booking." + b + ".2.accepted", []string{access.Ridersvc}},
		{pub, "ledger.booking." + b + ".3.arrived", []string{access.Ridersvc}},
		{pub, "ledger.booking." + b + ".4.started", []string{access.Ridersvc}},
		{pub, "ledger.booking." + b + ".4.start_refused", []string{access.Ridersvc}},
		{pub, "ledger.booking." + b + ".5.completed", []string{access.Ridersvc}},
		{pub, "ledger.booking." + b + ".2.cancelled", []string{access.Usersvc}},
		{pub, "ledger.booking." + b + ".3.released", []string{access.Ridersvc}},
		{pub, "ledger.booking." + b + ".4.operator_cancelled", []string{access.Operator}},
		{pub, "ledger.booking." + b + ".3.operator_released", []string{access.Operator}},
		{pub, "ledger.booking." + b + ".2.expired", []string{access.Usersvc}},
		{pub, "ledger.booking." + b + ".6.rated", []string{access.Usersvc}},
		{pub, "ledger.booking." + b + ".6.rider_rated", []string{access.Ridersvc}},
		{pub, "ledger.rider." + tokentest.Rita + "." + b + ".engaged", []string{access.Ridersvc}},
		{pub, "ledger.anything", nil},
		{pub, "booking." + b + ".2.accepted", nil},
		{sub, "ledger.>", nil},
		// two different feeds: see TestWatcher
		{sub, "booking.>", []string{access.Operator, access.Watcher}},
		{sub, "booking.*.*.accepted", []string{access.Operator, access.Watcher, access.Usersvc, access.Ridersvc}},
		{sub, "booking.*.*.*", []string{access.Operator, access.Watcher, access.Usersvc, access.Ridersvc}},
		{sub, "rider.*.*.engaged", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{sub, "rider.>", []string{access.Operator}},
		{pub, "rider." + tokentest.Rita + "." + b + ".engaged", nil},
		// Reading it.
		{pub, "$JS.API.STREAM.INFO.BOOKINGS", all},
		{pub, "$JS.API.STREAM.MSG.GET.BOOKINGS", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "$JS.API.DIRECT.GET.BOOKINGS", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "$JS.API.DIRECT.GET.BOOKINGS.ledger.booking." + b + ".1.requested", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS.one", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS.one.ledger.>", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS.deadlines", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS.feed", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS.feed.ledger.booking.>", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.DURABLE.CREATE.BOOKINGS.feed", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.DELETE.BOOKINGS.feed", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.INFO.BOOKINGS.feed", []string{access.Usersvc, access.Operator}},
		{pub, "$JS.API.CONSUMER.INFO.BOOKINGS.deadlines", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.MSG.NEXT.BOOKINGS.feed", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.UNPIN.BOOKINGS.feed", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.UNPIN.BOOKINGS.deadlines", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.MSG.NEXT.BOOKINGS.deadlines", []string{access.Operator}},
		{pub, "$JS.ACK.BOOKINGS.feed.1.1.1.1.0", []string{access.Operator}},
		{pub, "$JS.ACK.BOOKINGS.deadlines.1.1.1.1.0", []string{access.Operator}},
		{pub, "$JS.FC.BOOKINGS.one.x", []string{access.Operator}},
		// Timers.
		{pub, "timer.set.1", ours},
		{pub, "timer.due.1", nil},
		{sub, "timer.>", nil},
		{pub, "$JS.API.CONSUMER.INFO.TIMERS.timers", []string{access.Usersvc, access.Operator}},
		{pub, "$JS.API.CONSUMER.MSG.NEXT.TIMERS.timers", []string{access.Usersvc, access.Operator}},
		{pub, "$JS.ACK.TIMERS.timers.1.1.1.1.0", []string{access.Usersvc, access.Operator}},
		{pub, "$JS.API.CONSUMER.INFO.TIMERS.releases", []string{access.Ridersvc, access.Operator}},
		{pub, "$JS.API.CONSUMER.MSG.NEXT.TIMERS.releases", []string{access.Ridersvc, access.Operator}},
		{pub, "$JS.ACK.TIMERS.releases.1.1.1.1.0", []string{access.Ridersvc, access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.TIMERS.timers", []string{access.Operator}},
		{pub, "$JS.API.STREAM.MSG.GET.TIMERS", []string{access.Operator}},
		{pub, "$JS.API.STREAM.INFO.TIMERS", []string{access.Usersvc, access.Operator}},
		// Quarantine and audit trail.
		{pub, "quarantine.17", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{sub, "quarantine.>", nil},
		{pub, "$JS.API.STREAM.MSG.GET.QUARANTINE", []string{access.Operator}},
		{pub, "$JS.API.STREAM.INFO.QUARANTINE", []string{access.Usersvc, access.Operator}},
		{pub, "audit.auth.login", []string{access.Authsvc, access.Operator}},
		{sub, "audit.>", nil},
		{pub, "$JS.API.STREAM.MSG.GET.AUDIT", []string{access.Operator}},
		{pub, "$JS.API.STREAM.INFO.AUDIT", []string{access.Authsvc, access.Operator}},
		// Only the operator creates, changes and purges streams.
		{pub, "$JS.API.STREAM.LIST", []string{access.Operator}},
		{pub, "$JS.API.STREAM.CREATE.MORE", []string{access.Operator}},
		{pub, "$JS.API.STREAM.UPDATE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.STREAM.DELETE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.STREAM.PURGE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.STREAM.MSG.DELETE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.STREAM.RESTORE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.STREAM.SNAPSHOT.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.SNAPSHOT.RESTORE.BOOKINGS.x", []string{access.Operator}},
		{pub, "$JS.SNAPSHOT.ACK.BOOKINGS.x.1.1", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.RESET.BOOKINGS.deadlines", []string{access.Operator}},
		{sub, "$JS.SNAPSHOT.>", []string{access.Operator}},
		{sub, "$JS.EVENT.>", []string{access.Operator}},
		{sub, "$JS.API.>", nil},
		{sub, "$KV.>", nil},
		{sub, "$KV.KEYS.jwks", nil},
		// Authentication.
		{pub, "auth.public-key", []string{access.Operator, access.Watcher}},
		{pub, "auth.jwks", []string{access.Authsvc, access.Operator, access.Watcher}},
		{pub, "auth.service-token", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{sub, "auth.public-key", []string{access.Authsvc}},
		{sub, "auth.jwks", []string{access.Authsvc}},
		{sub, "auth.service-token", []string{access.Authsvc}},
		{pub, "auth.order", []string{access.Operator}},
		{sub, "auth.order", []string{access.Authsvc}},
		{pub, "$SRV.PING", []string{access.Operator}},
		{sub, "$SRV.PING", []string{access.Authsvc}},
		{sub, "$SYS.REQ.USER.AUTH", []string{access.Callout}},
		{pub, "$SYS.REQ.USER.AUTH", nil},
		{pub, "$SYS.REQ.SERVER.PING.CONNZ", []string{access.Callout}},
		{pub, "$SYS.REQ.SERVER.N.CONNZ", []string{access.Callout}},
		{pub, "$SYS.REQ.SERVER.N.KICK", []string{access.Callout}},
		{pub, "$SYS.REQ.SERVER.N.RELOAD", nil},
		{pub, "$SYS.REQ.SERVER.PING.VARZ", nil},
		{sub, "$SYS.>", nil},
		// The feed, which contains no tokens.
		{pub, "feed.booking." + b + ".1.requested", []string{access.Usersvc}},
		{pub, "feed.user." + tokentest.Ulla + "." + b + ".1.requested", []string{access.Usersvc}},
		{pub, "feed.rider." + tokentest.Rita + "." + b + ".2.accepted", []string{access.Usersvc}},
		{pub, "feed.rider." + tokentest.Rita + ".open." + b + ".7.open", []string{access.Ridersvc}},
		{sub, "feed.>", []string{access.Operator}},
		{sub, "feed.booking.>", []string{access.Operator}},
		{sub, "feed.user." + tokentest.Ulla + ".>", []string{access.Operator, user}},
		{sub, "feed.rider." + tokentest.Rita + ".>", []string{access.Operator, rider}},
		{sub, "feed.rider." + tokentest.Rita + ".open.>", []string{access.Operator, rider}},
		{sub, "feed.rider." + b + ".open.>", []string{access.Operator}},
		{sub, "feed.user.*.>", []string{access.Operator}},
		{sub, "feed.user." + tokentest.Rita + ".>", []string{access.Operator}},
		{sub, "feed.rider." + tokentest.Ulla + ".>", []string{access.Operator}},
		{sub, "feed.rider." + b + ".>", []string{access.Operator}},
		// The bookings of an account that is about to be deleted.
		{pub, "rides.of-user", []string{access.Authsvc, access.Operator}},
		{pub, "rides.of-rider", []string{access.Authsvc, access.Operator}},
		{sub, "rides.of-user", []string{access.Usersvc}},
		{sub, "rides.of-rider", []string{access.Ridersvc}},
		// The positions of riders.
		{pub, "fleet.position.x", []string{access.Ridersvc}},
		{sub, "fleet.position.*", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		// Inboxes.
		{sub, "_INBOX.>", []string{access.Operator, access.Watcher}},
		{sub, "_INBOX_" + tokentest.Ulla + ".>", []string{user}},
		{sub, "_INBOX_" + tokentest.Rita + ".>", []string{rider}},
		{sub, ">", nil},
		{pub, "anything", nil},
	}
	for _, who := range []string{access.Authsvc, access.Usersvc, access.Ridersvc, access.Operator, access.Callout} {
		cs = append(cs, cell{sub, "_INBOX_" + who + ".>", []string{who}})
		cs = append(cs, cell{pub, "_INBOX_" + who + ".x", nil})
	}
	for _, bucket := range bus.Buckets() {
		writes, reads := []string{access.Authsvc, access.Operator}, []string{access.Authsvc, access.Operator}
		fetches, follows, purges := []string{access.Operator}, []string{access.Operator}, []string{access.Operator}
		switch bucket {
		case bus.BoardsBucket:
			writes, reads = ours, []string{access.Usersvc, access.Ridersvc, access.Operator}
			fetches, purges = reads, reads
		case bus.RidersBucket:
			writes, reads = []string{access.Ridersvc, access.Operator}, []string{access.Ridersvc, access.Operator}
		case bus.TurnsBucket:
			writes, reads = []string{access.Usersvc, access.Operator}, []string{access.Usersvc, access.Operator}
		case bus.AccountsBucket, bus.SessionsBucket:
			fetches = reads
		case bus.KeysBucket, bus.RevocationsBucket: // all services verify tokens
			reads, fetches, follows = all, all, all
		}
		stream, known := "KV_"+bucket, reads
		if bucket == bus.TurnsBucket {
			known = all // by it they know whether everything is there
		}
		cs = append(cs,
			cell{pub, "$KV." + bucket + ".x.y", writes},
			cell{pub, "kv." + bucket + ".x", nil},
			cell{sub, "kv." + bucket + ".>", follows},
			cell{pub, "$JS.API.STREAM.INFO." + stream, known},
			cell{pub, "$JS.API.STREAM.MSG.GET." + stream, reads},
			cell{pub, "$JS.API.DIRECT.GET." + stream, fetches},
			cell{pub, "$JS.API.DIRECT.GET." + stream + ".$KV." + bucket + ".x", []string{access.Operator}},
			cell{pub, "$JS.API.CONSUMER.CREATE." + stream + ".one", []string{access.Operator}},
			cell{pub, "$JS.FC." + stream + ".one.x", []string{access.Operator}},
			cell{pub, "$JS.API.STREAM.PURGE." + stream, purges},
		)
	}
	return cs
}
