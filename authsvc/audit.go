package authsvc

import "github.com/example/pillion/authsvc/keys"

// An Entry is one attempt or change, as the audit trail stores it. It contains no password, token
// or code, and emails only in their masked form.
type Entry struct {
	V int `json:"v"` // schema version: 1
	// What is login, register, refresh, reuse, logout, logout-all, password, delete, limit,
	// operator, key or service.
	What    string `json:"what"`
	Result  string `json:"result"`
	Reason  string `json:"reason,omitempty"` // a few words of the service's own
	Account string `json:"account,omitempty"`
	Session string `json:"session,omitempty"`
	Role    string `json:"role,omitempty"`
	Email   string `json:"email,omitempty"`      // masked
	Client  string `json:"client,omitempty"`     // its IP address
	Key     string `json:"key,omitempty"`        // kid
	Actor   string `json:"actor,omitempty"`      // the operator who gave the command
	Request string `json:"request_id,omitempty"` // as in the log
}

// entry returns the What of an attempt. Two results have a name of their own.
func (a action) entry(r result) string {
	switch r {
	case reuse:
		return "reuse"
	case limited:
		return "limit"
	}
	return entries[a]
}

var entries = map[action]string{
	logins: "login", registrations: "register", refreshes: "refresh", logouts: "logout", logoutsAll: "logout-all",
	deletions: "delete", passwordChanges: "password",
}

// EntryOf returns the entry of an operator's command about an account.
func EntryOf(a Account, command, actor string) Entry {
	return Entry{
		V: 1, What: "operator", Result: string(success), Reason: command,
		Account: a.ID, Role: string(a.Role), Email: a.Email.Masked(), Actor: actor,
	}
}

// EntryOfKey returns the entry of a change of the published keys. actor is the operator who gave
// the command, or empty.
func EntryOfKey(c keys.Change, actor string) Entry {
	return Entry{V: 1, What: "key", Result: string(success), Reason: c.What, Key: c.Key, Actor: actor}
}
