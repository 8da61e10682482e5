package access

import (
	"slices"
	"strings"

	"github.com/example/pillion/bus"
)

// The accounts of NATS. Connections see nothing of another account but what it exports to theirs.
//
// NATS checks what a client publishes, and not the reply subject that it names: the service that
// answers writes there with its own rights. An answer that crosses accounts goes back into the
// asker's account only. So the streams are in an account of their own, and each service in another.
const (
	SystemAccount   = "SYS"      // the servers' own
	CalloutAccount  = "AUTH"     // where servers send authentication requests
	Account         = "PILLION"  // the streams, and the operator
	AuthsvcAccount  = "AUTHSVC"  // authsvc
	UsersvcAccount  = "USERSVC"  // usersvc
	RidersvcAccount = "RIDERSVC" // ridersvc
	PeopleAccount   = "PEOPLE"   // clients with an access token
	WatchAccount    = "WATCH"    // clients without credentials, in demo mode
)

// accounts returns the accounts in the order of the configuration.
func accounts() []string {
	return []string{SystemAccount, CalloutAccount, Account, AuthsvcAccount, UsersvcAccount, RidersvcAccount,
		PeopleAccount, WatchAccount}
}

// A share is what one account exports and others import.
type share struct {
	Stream   bool // what the account publishes; otherwise requests that it answers
	Subject  string
	From     string
	To       []string // who imports it
	As       string   // the subject in those accounts; empty: the same
	Many     bool     // a request may have several answers
	Consumes bool     // it is answered once there is something to deliver
}

// shares returns everything that accounts share. Requests follow from the table: each goes to the
// account in which it is answered. With watch, clients without credentials hear the demo feed.
func shares(watch bool) (all []share) {
	for _, g := range Table() {
		if g.Account == WatchAccount && !watch {
			continue
		}
		for _, subject := range g.Publish {
			if from := answeredIn(subject); from != "" && from != g.Account {
				all = request(all, subject, from, g.Account)
			}
		}
	}
	services := []string{AuthsvcAccount, UsersvcAccount, RidersvcAccount}
	for _, account := range services {
		// Otherwise the server would answer for the account itself that it has no JetStream.
		all = request(all, api("INFO"), Account, account)
	}
	stream := func(from string, to []string, subjects ...string) {
		for _, subject := range subjects {
			all = append(all, share{Stream: true, Subject: subject, From: from, To: to})
		}
	}
	stream(Account, services, bus.LiveSubjects(bus.BucketStream(bus.KeysBucket))...)
	stream(Account, services, bus.LiveSubjects(bus.BucketStream(bus.RevocationsBucket))...)
	stream(Account, []string{UsersvcAccount, RidersvcAccount}, bus.LiveSubjects(bus.LedgerStream)...)
	stream(UsersvcAccount, []string{Account}, bus.FeedBookingPattern)
	stream(UsersvcAccount, []string{Account, PeopleAccount}, bus.FeedUserPattern, bus.FeedRiderPattern)
	stream(RidersvcAccount, []string{Account, PeopleAccount}, bus.FeedOpenPattern)
	stream(RidersvcAccount, []string{Account, UsersvcAccount}, bus.FleetPattern)
	if watch {
		all = append(all, share{Stream: true, Subject: bus.FeedBookingPrefix + ">", As: "booking.>",
			From: UsersvcAccount, To: []string{WatchAccount}})
	}
	return all
}

// request adds a request that to may make of from.
func request(all []share, subject, from, to string) []share {
	for i := range all {
		if s := &all[i]; s.Subject == subject && s.From == from && !s.Stream {
			if !slices.Contains(s.To, to) {
				s.To = append(s.To, to)
			}
			return all
		}
	}
	consumes := strings.HasPrefix(subject, api("CONSUMER.MSG.NEXT", ""))
	return append(all, share{
		Subject: subject, From: from, To: []string{to}, Consumes: consumes,
		Many: consumes || strings.HasPrefix(subject, api("DIRECT.GET", "")) ||
			strings.HasPrefix(subject, "$S"), // of services ($SRV) and of servers ($SYS)
	})
}

// answeredIn returns the account in which a subject is answered, or stored. It is empty for what is
// only heard.
func answeredIn(subject string) string {
	switch subject {
	case bus.UserRidesSubject:
		return UsersvcAccount
	case bus.RiderRidesSubject:
		return RidersvcAccount
	}
	switch first, _, _ := strings.Cut(subject, "."); first {
	case "$JS", "$KV", "ledger", "timer", "quarantine", "audit":
		return Account
	case "auth", "$SRV":
		return AuthsvcAccount
	case "$SYS":
		return SystemAccount
	}
	return ""
}
