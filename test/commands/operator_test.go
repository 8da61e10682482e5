package commands

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/token/trustkey"
)

// An operated is what one operator's command answers in one case.
type operated struct {
	command string // with its program
	when    string // found, not found, refused or away
	args    string
	status  int
	out     string // a regular expression for the whole output
	errs    string // likewise; every sentence is a line
}

// never are the cases that a command does not have, or that another test has.
var never = map[string]string{
	"pillion provision, not found":           "it creates what is not there",
	"pillion keys init, away":                "it needs no NATS",
	"pillion certs init, away":               "it needs no NATS",
	"pillion audit, not found":               "an empty ledger has no faults",
	"pillion audit, refused":                 "TestWhatIsWrongIsSaid has a ledger with faults",
	"pillion backup, not found":              "TestCommandsWithoutStreams",
	"pillion health, refused":                "it asks for nothing that could be refused",
	"pillion health, away":                   "it asks the process, and not NATS",
	"authsvc health, refused":                "it asks for nothing that could be refused",
	"authsvc health, away":                   "it asks the process, and not NATS",
	"authsvc accounts copy, found":           "TestAccountsMove has PostgreSQL",
	"authsvc keys list, not found":           "a running authsvc has published keys",
	"authsvc keys list, refused":             "it asks for nothing that could be refused",
	"authsvc keys rotate, not found":         "it takes the next key, and waits for it",
	"authsvc keys close-old-rule, not found": "a running authsvc has published keys, and there is a ledger",
	"authsvc keys rotate, refused":           "TestKeysForOperators waits for the next key",
	"pillion move, away":                     "a system is copied before it is sent away; copies_test.go has the failure",
	"authsvc accounts copy, not found":       "an empty store is copied too",
}

const (
	noAccount = `authsvc: There is no such account\. Give its email, or its id of 26 characters\.\n`
	whichRole = `authsvc: This email belongs to a user and to a raider\. Name one with --role\.\n`
	noBooking = `pillion: There is no such booking\.\n`
	bookings  = `BOOKING +STATE +USER +RAIDER +REQUESTED +UPDATED +REASON\n`
	account   = `ID +EMAIL +ROLE +STATE +CREATED\n[a-z2-7]{26} +`
	keys      = `KID +STAGE +BITS +PUBLISHED +ACTIVE FROM +RETIRED +COMPROMISED\n`
)

// TestOperatorsCommands runs every operator's command on the host: for what is there, for what is
// not, for what is refused, and without NATS. It has rows for all commands that the help lists.
// Without NATS, and with a key that NATS does not know, TestCommandsWithoutNATS runs them.
func TestOperatorsCommands(t *testing.T) {
	t.Parallel()
	dir, data := t.TempDir(), t.TempDir()
	system := proctest.Pillion(t, data, "--demo", "--approve-riders", "--booking-deadline=1h")
	for _, who := range []string{"kim user", "kim raider", "sven user"} {
		name, role, _ := strings.Cut(who, " ")
		if status, words := proctest.Call(t, http.MethodPost, system.At["authsvc"]+"/register", asJSON, `{"email":"`+name+
			`@example.com","password":"correct horse battery","role":"`+role+`"}`); status != http.StatusCreated {
			t.Fatalf("register %s: %s", who, words)
		}
	}
	user, rider := tokenOf(t, system, "john@example.com", "user"), tokenOf(t, system, "rider@example.com", "raider")
	book := func() string {
		t.Helper()
		_, words := proctest.Call(t, http.MethodPost, system.At["usersvc"]+"/book", user, "{}")
		return regexp.MustCompile(`"booking_id":"([^"]+)"`).FindStringSubmatch(words)[1]
	}
	first, second := book(), book()
	if status, words := proctest.Call(t, http.MethodPost, system.At["ridersvc"]+"/accept-booking", rider,
		`{"booking_id":"`+second+`"}`); status != http.StatusOK {
		t.Fatalf("accept: %s", words)
	}
	target, another := bustest.RunClosed(t, false), bustest.RunClosed(t, false)
	old := inside(t, func(string, string) {})
	nowhere := "--nats-url=nats://" + bustest.FreeAddr(t)
	there := "--nats-url=" + target.URL() + " --service-key=" + access.KeyFile(target.Keys, access.Operator)
	elsewhere := "--nats-url=" + another.URL() + " --service-key=" + access.KeyFile(another.Keys, access.Operator)
	file := write(t, filepath.Join(dir, "file"), "in the way", 0o600)
	kid := firstKey(t, system, data)
	foreign := filepath.Join(t.TempDir(), trustkey.KeyFile)
	if _, err := trustkey.LoadOrCreate(foreign); err != nil {
		t.Fatal(err)
	}

	rows := []operated{
		{"pillion provision", "found", "", 0, `The streams and buckets exist: .+\n`, `(?s).*`},
		{"pillion provision", "refused", "--replicas=3", 2, ``, `(?s).*pillion: NATS has too few servers for the asked number of replicas of stream BOOKINGS\. .+--replicas\.\n`},
		{"pillion provision", "away", "--timeout=1s --log-level=error " + nowhere, 1, ``, `(?s).*pillion: Cannot create the streams in time\. NATS at .+\n`},
		{"pillion keys init", "not found", "--services=" + dir + "/k --conf=" + dir + "/keys.conf", 0, `The keys exist, and their public keys for NATS are in .+\n`, ``},
		{"pillion keys init", "found", "--services=" + dir + "/k", 0, `(PILLION_[A-Z]+: [A-Z0-9]{56}\n){7}`, ``},
		{"pillion keys init", "refused", "--services=" + file, 2, ``, `pillion: The nkey in .+ cannot be read: not a directory\. .+\n`},
		{"pillion certs init", "not found", "--certs=" + dir + "/c", 0, `Created for trying TLS, in .+: ca, nats, .+\n`, ``},
		{"pillion certs init", "found", "--certs=" + dir + "/c", 0, `All certificates exist already\. Replace them with --renew\.\n`, ``},
		{"pillion certs init", "refused", "--certs=" + dir + "/c --for=smtp", 2, ``, `pillion: There are certificates for nats, .+\n`},
		{"pillion bookings list", "found", "", 0, bookings + second + ` .+\n` + first + ` .+\n`, ``},
		{"pillion bookings list", "found", "--limit=1", 0, bookings + second + ` .+\n`, `There are more\. These are the newest 1; list more with --limit\.\n`},
		{"pillion bookings list", "found", "--limit=2 --json", 0, `(\{"booking_id":.+\}\n){2}`, ``},
		{"pillion bookings list", "not found", "--user=" + nobodys, 0, `There are no such bookings\.\n`, ``},
		{"pillion bookings list", "not found", "--raider=" + nobodys + " --json", 0, ``, ``},
		{"pillion bookings list", "refused", "--user=john@example.com", 2, ``, `pillion: --user and --raider take the id of an account.+\n`},
		{"pillion bookings list", "refused", "--raider=rider@example.com", 2, ``, `pillion: --user and --raider take the id of an account.+\n`},
		{"pillion bookings show", "found", first, 0, bookings + first + ` +open .+\n`, ``},
		{"pillion bookings show", "not found", nobodys, 1, ``, noBooking},
		{"pillion bookings show", "refused", "john@example.com", 2, ``, `pillion: The booking id must be 26 characters .+\n`},
		{"pillion bookings release", "found", second + " --reason=puncture", 0, bookings + second + ` +open .+ puncture\n`, ``},
		{"pillion bookings release", "not found", nobodys + " --reason=puncture", 1, ``, noBooking},
		{"pillion bookings release", "refused", second + " --reason=again", 1, ``, `pillion: This is not possible in the booking's present state\.\n`},
		{"pillion bookings cancel", "found", second + " --reason=rain", 0, bookings + second + ` +cancelled .+ rain\n`, ``},
		{"pillion bookings cancel", "not found", nobodys + " --reason=rain", 1, ``, noBooking},
		{"pillion bookings cancel", "refused", second + " --reason=again", 1, ``, `pillion: This booking was cancelled\.\n`},
		{"pillion watch", "found", second, 0, `TIME +BOOKING +N +EVENT +STATE +BY\n(.+\n)*.+  operator_cancelled +cancelled .+: rain\n`, ``},
		{"pillion watch", "not found", nobodys, 1, ``, noBooking},
		{"pillion watch", "refused", "john@example.com", 2, ``, `pillion: The booking id must be 26 characters .+\n`},
		{"pillion audit", "found", "", 0, `ledger: messages 1 to .+\nThe ledger has no faults\.\n`, ``},
		{"pillion backup", "found", "--out=" + dir + "/b", 0, `(?s)copied .+The backup in .+ is complete\. .+`, ``},
		{"pillion backup", "refused", "--out=" + dir + "/b", 2, ``, `pillion: Cannot make a backup in .+\n`},
		{"pillion restore", "refused", dir + "/b", 2, ``, `pillion: Nothing was restored, because .+\n`},
		{"pillion restore", "refused", dir + "/b --replicas=3 " + there, 2, ``, `pillion: NATS has too few servers for that number of replicas\. .+\n`},
		{"pillion restore", "not found", dir + "/nothing", 2, ``, `pillion: .+ contains no complete backup: .+\n`},
		{"pillion restore", "away", dir + "/b " + nowhere, 1, ``, `pillion: NATS at .+ cannot be reached: .+\n`},
		{"pillion restore", "found", dir + "/b --trust=" + filepath.Join(data, "services", "trust.pub") + " " + there, 0, `(?s)restored .+The ledger has no faults\.\nThe system is restored to its state at .+`, ``},
		{"pillion move", "not found", "--data=" + dir + "/nothing", 2, ``, `pillion: Cannot write a copy of the system to .+ Check that the folder exists and is writable\.\n`},
		{"pillion move", "refused", "--data=" + data, 2, ``, `pillion: The data folder .+ cannot be used: another program is using it\. .+\n`},
		{"pillion move", "refused", "--data=" + old, 2, `(?s)copied .+`, `pillion: Nothing was restored, because .+\n`},
		{"pillion move", "found", "--data=" + old + " " + elsewhere, 0, `(?s)copied .+The system has moved\. .+`, ``},
		{"pillion health", "found", "", 0, ``, ``},
		{"pillion health", "not found", "--ops-addr=" + bustest.FreeAddr(t), 1, ``, `pillion: The process does not answer its health check\.\n`},

		{"authsvc accounts list", "found", "--state=pending", 0, account + `kim@example\.com +raider +pending .+\n`, ``},
		{"authsvc accounts list", "not found", "--state=disabled", 0, `There are no such accounts\.\n`, ``},
		{"authsvc accounts list", "not found", "--state=disabled --json", 0, ``, ``},
		{"authsvc accounts list", "refused", "--state=gone", 2, ``, `authsvc: --state must be .+\n`},
		{"authsvc accounts show", "found", "sven@example.com", 0, account + `sven@example\.com +user +active .+\n`, ``},
		{"authsvc accounts show", "not found", "nobody@example.com", 1, ``, noAccount},
		{"authsvc accounts show", "not found", nobodys, 1, ``, noAccount},
		{"authsvc accounts show", "refused", "kim@example.com", 2, ``, whichRole},
		{"authsvc accounts approve", "found", "kim@example.com --role=raider", 0, account + `kim@example\.com +raider +active .+\n`, ``},
		{"authsvc accounts approve", "not found", "nobody@example.com", 1, ``, noAccount},
		{"authsvc accounts approve", "refused", "kim@example.com", 2, ``, whichRole},
		{"authsvc accounts disable", "found", "sven@example.com", 0, account + `sven@example\.com +user +disabled .+\n`, ``},
		{"authsvc accounts disable", "not found", "nobody@example.com", 1, ``, noAccount},
		{"authsvc accounts disable", "refused", "kim@example.com", 2, ``, whichRole},
		{"authsvc accounts enable", "found", "sven@example.com", 0, account + `sven@example\.com +user +active .+\n`, ``},
		{"authsvc accounts enable", "not found", "nobody@example.com", 1, ``, noAccount},
		{"authsvc accounts enable", "refused", "kim@example.com", 2, ``, whichRole},
		{"authsvc accounts revoke", "found", "sven@example.com", 0, account + `sven@example\.com +user +active .+\n`, ``},
		{"authsvc accounts revoke", "not found", "nobody@example.com", 1, ``, noAccount},
		{"authsvc accounts revoke", "refused", "sven@example.com --as-of=2100-01-01T00:00:00Z", 2, ``, `authsvc: The time is in the future\. .+\n`},
		{"authsvc accounts reset-password", "found", "sven@example.com", 0, `(?s)` + account + `sven@example\.com +user +reset .+code: .+`, ``},
		{"authsvc accounts reset-password", "not found", "nobody@example.com", 1, ``, noAccount},
		{"authsvc accounts reset-password", "refused", "rider@example.com", 1, ``, `authsvc: The password of a demo account cannot be changed\. Disable it, or run authsvc without --demo\.\n`},
		{"authsvc accounts show", "found", "rider@example.com", 0, account + `rider@example\.com +raider +active .+\n`, ``},
		{"authsvc accounts delete", "found", "sven@example.com", 0, account + `sven@example\.com +user +deleted .+\n`, ``},
		{"authsvc accounts delete", "found", "kim@example.com --role=user --json", 0, `\{"id":.+"email":"kim@example\.com","role":"user","state":"deleted",.+\}\n`, ``},
		{"authsvc accounts delete", "not found", "sven@example.com", 1, ``, noAccount},
		{"authsvc accounts delete", "refused", "john@example.com", 1, ``, `authsvc: A demo account cannot be deleted\. Disable it, or run authsvc without --demo\.\n`},
		{"authsvc accounts copy", "refused", "--from=nats --to=nats", 2, ``, `authsvc: --from and --to are the same place\. Name two\.\n`},
		{"authsvc keys list", "found", "", 0, keys + `(.+\n)+`, ``},
		{"authsvc keys rotate", "found", "", 0, keys + `(.+\n)+`, ``},
		{"authsvc keys retire", "not found", "nobody", 1, ``, `authsvc: There is no such key\. List them with: authsvc keys list\n`},
		{"authsvc keys retire", "refused", kid + " --as-of=2100-01-01T00:00:00Z", 2, ``, `authsvc: .+ in the future\..*\n`},
		{"authsvc keys close-old-rule", "refused", "--trust-key=" + foreign, 1, ``, `authsvc: The trust key has not signed the key set in NATS, .+\n`},
		{"authsvc keys close-old-rule", "found", "", 0, keys + `(.+\n)+The old rule, .+ has ended with message 0 of the ledger\.\n`, ``},
		{"authsvc keys close-old-rule", "found", "--trust-key=" + filepath.Join(data, "services", trustkey.KeyFile), 0, keys + `(.+\n)+The old rule, .+ has ended with message 0 of the ledger\.\n`, ``},
		{"authsvc keys retire", "found", kid, 0, keys + `(?s).+compromised.+`, ``},
		{"authsvc health", "found", "", 0, ``, ``},
		{"authsvc health", "not found", "--ops-addr=" + bustest.FreeAddr(t), 1, ``, `authsvc: The process does not answer its health check\.\n`},
	}
	at := system.NATS(data, access.Operator)
	had := map[string]bool{}
	for _, r := range rows {
		had[r.command+", "+r.when] = true
		fields := strings.Fields(r.command)
		args := append(fields[1:len(fields):len(fields)], flagsOf(r.command, at, system)...)
		args = append(args, strings.Fields(r.args)...) // of two flags, the last one counts
		status, out, errs := proctest.Finish(t, fields[0], args...)
		if status != r.status || !whole(r.out, out) || !whole(r.errs, errs) {
			t.Errorf("%s, %s: %s\nstatus %d, want %d\noutput %q, want %s\nerrors %q, want %s", r.command, r.when, r.args,
				status, r.status, out, r.out, errs, r.errs)
		}
	}
	for name := range needsNATS(dir) {
		had[name+", away"] = true
	}
	for _, command := range append(leaves(t, "pillion"), leaves(t, "authsvc")...) {
		for _, when := range []string{"found", "not found", "refused", "away"} {
			if cell := command + ", " + when; !had[cell] && never[cell] == "" {
				t.Errorf("no row for %s", cell)
			}
		}
	}
}

// whole reports whether all of a text matches.
func whole(pattern, text string) bool {
	return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(text)
}

// flagsOf returns the flags by which a command finds the system.
func flagsOf(command string, nats []string, system *proctest.Program) []string {
	switch {
	case strings.HasSuffix(command, " init"):
		return nil
	case strings.HasSuffix(command, " health"):
		return []string{"--ops-addr=" + strings.TrimPrefix(system.At["ops"], "http://")}
	}
	return nats
}

// leaves returns the operator's commands that the help of a program lists.
func leaves(t *testing.T, program string) (all []string) {
	t.Helper()
	_, out, _ := proctest.Finish(t, program, "--help")
	_, list, found := strings.Cut(out, "\nCommands:\n")
	if !found {
		t.Fatalf("the help of %s lists no commands", program)
	}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z][a-z -]*?)(?: [-<\[].*)?$`).FindAllStringSubmatch(list, -1) {
		if m[1] != "run" { // which is no operator's, but the program itself
			all = append(all, program+" "+m[1])
		}
	}
	if len(all) < 8 {
		t.Errorf("the help of %s lists only %v", program, all)
	}
	return all
}

// firstKey returns the id of the active key.
func firstKey(t *testing.T, system *proctest.Program, data string) string {
	t.Helper()
	_, out, _ := proctest.Finish(t, "authsvc", append([]string{"keys", "list"}, system.NATS(data, access.Operator)...)...)
	kid := regexp.MustCompile(`(?m)^(\S+) +active `).FindStringSubmatch(out)
	if kid == nil {
		t.Fatalf("no active key: %s", out)
	}
	return kid[1]
}

// TestFolderOfAnotherUser runs programs on folders that their user may not read. They name the
// folder and the reason, and not a file in it.
func TestFolderOfAnotherUser(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := os.Chmod(data, 0); err != nil {
		t.Fatal(err)
	}
	want := "The data folder " + data + " cannot be used: permission denied. Choose another with --data."
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--data=" + data, "--auth-addr=127.0.0.1:0", "--user-addr=127.0.0.1:0", "--rider-addr=127.0.0.1:0",
			"--ops-addr=127.0.0.1:0", "--nats-addr=127.0.0.1:0", "--log-level=error"}, want},
		{[]string{"move", "--data=" + data}, want},
		{[]string{"certs", "init", "--certs=" + data}, "The CA in " + data + "/ca.crt and " + data +
			"/ca.key belongs to another user. Run this as that user, or choose another folder."},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
		defer cancel()
		cmd := proctest.Command(ctx, "pillion", c.args...)
		if os.Getuid() == 0 { // who may read everything
			const nobody = 65534
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		out, err := cmd.CombinedOutput()
		if string(out) != "pillion: "+c.want+"\n" || cmd.ProcessState.ExitCode() != 2 {
			t.Errorf("%v: %v %s, want %s", c.args, err, out, c.want)
		}
	}
	if err := os.Chmod(data, 0o700); err != nil {
		t.Fatal(err)
	}
}
