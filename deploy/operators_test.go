//go:build docker

package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
)

// An errand is an operator's command in the containers, with what it must say and its exit status.
type errand struct {
	line   string // after "docker compose run --rm"; BOOKING and KID stand for ids
	status int
	says   string
}

const (
	noBooking = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	nobody    = "nobody@example.com"
)

// The commands of docs/operate-containers.md, on what there is.
var (
	looks = []errand{
		{"ops pillion bookings list", 0, "accepted"},
		{"ops pillion bookings show BOOKING", 0, "accepted"},
		{"ops pillion audit", 0, "The ledger has no faults."},
		{"ops pillion provision", 0, "The streams and buckets exist"},
		{"ops pillion backup --out /backups/monday", 0, "The backup in /backups/monday is complete."},
		{"ops authsvc accounts list", 0, "john@example.com"},
		{"ops authsvc accounts show kim@example.com", 0, "kim@example.com"},
		{"ops authsvc keys list", 0, "active"},
		{"ops nats stream ls", 0, "BOOKINGS"},
		{"ops nats stream report", 0, "BOOKINGS"},
		{"keys", 0, "The keys exist"},
		{"certs", 0, "All certificates exist already"},
	}
	changes = []errand{
		{`ops pillion bookings release BOOKING --reason "the raider's phone is dead"`, 0, "open"},
		{`ops pillion bookings cancel BOOKING --reason "not heard of since noon"`, 0, "cancelled"},
		{"ops authsvc accounts disable kim@example.com", 0, "disabled"},
		{"ops authsvc accounts enable kim@example.com", 0, "active"},
		{"ops authsvc accounts approve kim@example.com", 0, "active"},
		{"ops authsvc accounts revoke kim@example.com", 0, "kim@example.com"},
		{"ops authsvc accounts reset-password kim@example.com", 0, "code: "},
		{"ops authsvc accounts delete kim@example.com", 0, "deleted"},
		{"ops authsvc keys rotate", 0, "next"},
		{"ops authsvc keys retire KID", 0, "KID"},
		{"ops authsvc keys close-old-rule", 0, "has ended with message 0"},
	}
	restore = errand{"ops pillion restore /backups/monday", 0, "The system is restored"}
	watch   = errand{"ops nats sub 'feed.booking.>'", 0, `"requested"`}
)

// The same commands where what they name is not there.
var unfound = []errand{
	{"ops pillion bookings show " + noBooking, 1, "no such booking"},
	{"ops pillion bookings cancel " + noBooking + " --reason storm", 1, "no such booking"},
	{"ops pillion bookings release " + noBooking + " --reason storm", 1, "no such booking"},
	{"ops pillion restore /backups/tuesday", 2, "/backups/tuesday contains no complete backup"},
	{"ops pillion move --data /backups/tuesday", 2, "/backups/tuesday: no such file or directory"},
	{"ops authsvc accounts show " + nobody, 1, "no such account"},
	{"ops authsvc accounts disable " + nobody, 1, "no such account"},
	{"ops authsvc accounts enable " + nobody, 1, "no such account"},
	{"ops authsvc accounts approve " + nobody, 1, "no such account"},
	{"ops authsvc accounts revoke " + nobody, 1, "no such account"},
	{"ops authsvc accounts reset-password " + nobody, 1, "no such account"},
	{"ops authsvc accounts delete " + nobody, 1, "no such account"},
	{"ops authsvc keys retire " + noBooking, 1, "no such key"},
	{"ops nats stream info NONE", 1, "error"},
}

// The same commands where they ask for what is not allowed.
var refused = []errand{
	{"ops pillion bookings list --state gone", 2, "tate"},
	{"ops pillion bookings show nothing", 2, "26 characters"},
	{"ops pillion bookings release BOOKING --reason storm", 1, "cancelled"},
	{"ops pillion bookings cancel BOOKING --reason storm", 1, "cancelled"},
	{"-e SERVICE_KEY_FILE=/tmp/mine.nk ops pillion bookings list", 1, "rejected the key of this process"},
	{"-e SERVICE_KEY_FILE=/tmp/mine.nk ops pillion audit", 1, "rejected the key of this process"},
	{"-e SERVICE_KEY_FILE=/tmp/mine.nk ops authsvc accounts list", 1, "rejected the key of this process"},
	{"-e SERVICE_KEY_FILE=/tmp/mine.nk ops authsvc keys rotate", 1, "rejected the key of this process"},
	{"-e SERVICE_KEY_FILE=/key/mine.nk ops pillion audit", 2, "/key/mine.nk: read-only file system"},
	{"ops pillion provision --ledger-age 1h", 2, "BOOKINGS"},
	{"ops pillion backup --out /monday", 2, "/monday: read-only file system"},
	{"ops pillion backup --out /backups/monday", 2, "it is not empty"},
	{"ops pillion restore /backups/monday", 2, "Nothing was restored"},
	{move, 2, "Nothing was restored"},
	{"ops authsvc accounts list --role pilot", 2, "--role"},
	{"ops authsvc accounts copy --from nats --to nats", 2, "the same place"},
	{"ops authsvc keys retire KID --as-of noon", 2, "--as-of"},
	{"keys keys init --services /elsewhere --conf /keys.conf", 2, "read-only file system"},
	{"certs certs init --for nobody", 2, "--for"},
	{"ops nats stream rm --force OTHER", 1, "not found"},
}

// operate has operators do their work in the containers. user is the token of a user whose booking
// has been accepted, and old the volume of another system.
func (s *stack) operate(t *testing.T, user, old string) {
	t.Helper()
	s.documented(t)
	accepted, other := s.booked(t, user), s.ride(t)
	s.errands(t, map[string]string{"BOOKING": accepted}, looks...)
	s.errands(t, nil, unfound...)
	s.watch(t, user)
	for _, e := range changes {
		kid := ""
		if strings.Contains(e.line, "KID") {
			m := regexp.MustCompile(`"kid":"([^"]+)","stage":"next"`).FindStringSubmatch(
				s.errand(t, errand{"ops authsvc keys list --json", 0, `"next"`}, nil))
			if m == nil {
				t.Fatal("there is no next key")
			}
			kid = m[1]
		}
		s.errand(t, e, map[string]string{"BOOKING": other, "KID": kid})
	}
	s.errand(t, errand{"ops nats stream get AUDIT --last-for audit.auth.operator", 0, "olga"}, nil)
	s.errands(t, map[string]string{"BOOKING": other, "KID": noBooking, "VOLUME": old}, refused...)

	s.compose(t, "stop", "nats")
	away := []errand{
		{move, 1, "NATS at nats://nats:4222"},
		{"ops authsvc accounts copy --from nats --to postgres://pillion@database/pillion", 1, "NATS at nats://nats:4222"},
	}
	for _, e := range slices.Concat(looks, changes, []errand{restore}) {
		program := strings.Join(strings.Fields(e.line)[:min(2, len(strings.Fields(e.line)))], " ")
		switch e.line {
		case "ops pillion backup --out /backups/monday":
			e.line = "ops pillion backup --out /backups/never"
		case "ops pillion provision":
			e.line += " --timeout 1s"
		}
		switch program {
		case "ops pillion", "ops authsvc":
			away = append(away, errand{e.line, 1, "NATS at nats://nats:4222"})
		case "ops nats":
			away = append(away, errand{e.line, 1, "error"})
		}
	}
	s.errands(t, map[string]string{"BOOKING": accepted, "KID": noBooking, "VOLUME": old}, away...)
	s.compose(t, "start", "nats")
	s.awaitReady(t, "3010", "3011", "3012")
}

// booked returns the newest booking of the user with a token.
func (s *stack) booked(t *testing.T, token string) string {
	t.Helper()
	_, body := s.curl(t, `http://localhost:3001/bookings -H "Authorization: Bearer `+token+`"`)
	m := regexp.MustCompile(`"booking_id":"([^"]+)"`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no bookings: %s", body)
	}
	return m[1]
}

// ride returns the booking of kim@example.com, which rita@example.com has accepted.
func (s *stack) ride(t *testing.T) string {
	t.Helper()
	const password = "correct horse battery"
	enter := func(email, role string) string {
		if status, body := s.curl(t, `-X POST http://localhost:3000/register -H "Content-Type: application/json" `+
			`-d '{"email":"`+email+`","password":"`+password+`","role":"`+role+`"}'`); status != "201" {
			t.Fatalf("register %s: %s %s", email, status, body)
		}
		return s.login(t, email, role, password)
	}
	kim, rita := enter("kim@example.com", "user"), enter("rita@example.com", "raider")
	if status, body := s.curl(t, `-X POST http://localhost:3001/book -H "Authorization: Bearer `+kim+
		`" -d '{}'`); status != "200" {
		t.Fatalf("book: %s %s", status, body)
	}
	id := s.booked(t, kim)
	if status, body := s.curl(t, `-X POST http://localhost:3002/accept-booking -H "Authorization: Bearer `+rita+
		`" -d '{"booking_id":"`+id+`"}'`); status != "200" {
		t.Fatalf("accept: %s %s", status, body)
	}
	return id
}

// documented checks that the page for operators has these commands, and no others.
func (s *stack) documented(t *testing.T) {
	t.Helper()
	var want, got []string
	for _, e := range slices.Concat(looks, changes, []errand{restore, watch}) {
		want = append(want, e.line)
	}
	for _, m := range regexp.MustCompile(`(?m)^docker compose run --rm (.*?)(?:\s+#.*)?$`).FindAllStringSubmatch(
		read(t, "../docs/operate-containers.md"), -1) {
		got = append(got, m[1])
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("docs/operate-containers.md lacks: docker compose run --rm %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("no test runs this line of docs/operate-containers.md: docker compose run --rm %s", line)
		}
	}
}

// errands runs commands side by side.
func (s *stack) errands(t *testing.T, ids map[string]string, all ...errand) {
	t.Helper()
	var running sync.WaitGroup
	places := make(chan struct{}, 3)
	for _, e := range all {
		places <- struct{}{}
		running.Go(func() {
			s.errand(t, e, ids)
			<-places
		})
	}
	running.Wait()
}

// errand runs one command and returns what it says.
func (s *stack) errand(t *testing.T, e errand, ids map[string]string) string {
	t.Helper()
	out, err := s.shell(t, e.line, ids).CombinedOutput()
	status := 0
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		status = failed.ExitCode()
	} else if err != nil {
		t.Errorf("%s: %v", e.line, err)
	}
	says := strings.ReplaceAll(e.says, "KID", ids["KID"])
	if status != e.status || !bytes.Contains(out, []byte(says)) {
		t.Errorf("%s: status %d, want %d and %q:\n%s", e.line, status, e.status, says, out)
	}
	return string(out)
}

// shell returns the process of a command in the containers, in a shell as an operator has it. It is
// killed after five minutes, and when the test ends.
func (s *stack) shell(t *testing.T, line string, ids map[string]string) *exec.Cmd {
	t.Helper()
	for name, id := range ids {
		line = strings.ReplaceAll(line, name, id)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "sh", "-c", strings.Join(s.command, " ")+" run --rm -T "+line)
	cmd.Dir, cmd.Env = "..", s.env
	return cmd
}

// watch checks that an operator can watch bookings in the containers.
func (s *stack) watch(t *testing.T, user string) {
	t.Helper()
	said := new(wait.Journal)
	cmd := s.shell(t, watch.line+" --count 1", nil)
	cmd.Stdout, cmd.Stderr = said, said
	done := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { done <- cmd.Wait() }()
	wait.Until(t, "the operator watches", func() bool { return strings.Contains(said.String(), "Subscribing") })
	wait.Until(t, "the operator has seen a booking", func() bool {
		s.curl(t, `-X POST http://localhost:3001/book -H "Authorization: Bearer `+user+`" -d '{}'`)
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("watch: %v\n%s", err, said)
			}
			return true
		default:
			return false
		}
	})
	if !strings.Contains(said.String(), watch.says) || strings.Contains(said.String(), "eyJ") {
		t.Errorf("the operator sees %s", said)
	}
}
