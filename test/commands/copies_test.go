package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/token/trustkey"
)

// inside creates the data folder of a stopped pillion. Its ledger has an overdue booking, and the
// record of a rider who is engaged without an acceptance. do runs while its server is up.
func inside(t *testing.T, do func(url, key string)) (data string) {
	t.Helper()
	data = t.TempDir()
	services := filepath.Join(data, "services")
	public, err := access.LoadOrCreate(services)
	if err != nil {
		t.Fatal(err)
	}
	server, err := embedded.Start(embedded.Config{Dir: filepath.Join(data, "nats"), Addr: "127.0.0.1:0",
		Access: access.Conf(public, false)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}()
	connect := func(who string) *bus.Conn {
		key, err := bus.LoadOrCreateServiceKey(access.KeyFile(services, who))
		if err != nil {
			t.Fatal(err)
		}
		c, err := bus.Connect(bus.Config{URL: server.URL(), Key: key, Inbox: who})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	auth := tokentest.New(t)
	operator, usersvc, ridersvc := connect(access.Operator), connect(access.Usersvc), connect(access.Ridersvc)
	for _, c := range []*bus.Conn{operator, usersvc, ridersvc} {
		defer c.Close(ctx)
	}
	if err := bus.Provision(ctx, operator, bus.Plan{LedgerSize: 1 << 26}); err != nil {
		t.Fatal(err)
	}
	key, err := trustkey.Load(filepath.Join(services, trustkey.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := trust.NewAuthority(operator, key, "").ChangeKeys(ctx, func(*token.KeySet, time.Time) (*token.KeySet,
		error) {
		return auth.KeySet(), nil
	}); err != nil {
		t.Fatal(err)
	}
	ledger, err := ledger.Open(usersvc, ledger.Options{Source: "/test", Tokens: auth.Verifier()})
	if err != nil {
		t.Fatal(err)
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	user, rider, id := booking.NewID(), booking.NewID(), booking.ID(booking.NewID())
	command := booking.Command{
		ID: booking.CommandID(booking.NewID()), Actor: booking.Actor{ID: user, Role: booking.User},
		Proof: auth.Proof(token.User, user),
	}
	if _, err := desk.Book(ctx, command, id, booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg(fmt.Sprintf("ledger.rider.%s.%s.engaged", rider, id))
	m.Header.Set("Authorization", "Bearer "+auth.Proof(token.Rider, rider))
	m.Data, _ = json.Marshal(map[string]any{"v": 2, "rider": rider, "booking_id": id, "event_id": booking.NewID(),
		"command_id": booking.NewID()})
	if _, err := ridersvc.JetStream().PublishMsg(ctx, m); err != nil {
		t.Fatal(err)
	}
	do(server.URL(), access.KeyFile(services, access.Operator))
	return data
}

// TestWhatIsWrongIsSaid checks that audit and restore report faults of the ledger by their exit
// status. A move reports only faults that it did not find before.
func TestWhatIsWrongIsSaid(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "copy")
	run := func(want int, says, saysNot string, at []string, command string, args ...string) {
		t.Helper()
		args = append(append([]string{command}, args...), at...)
		status, out, stderr := proctest.Finish(t, "pillion", args...)
		if status != want || !strings.Contains(out+stderr, says) || saysNot != "" &&
			strings.Contains(out+stderr, saysNot) {
			t.Errorf("%v: %d, want %d, with %q and without %q\n%s%s", args, status, want, says, saysNot, out, stderr)
		}
	}
	data := inside(t, func(url, key string) {
		at := []string{"--nats-url=" + url, "--service-key=" + key, "--timeout=25s"}
		run(1, "engaged_alone at 2", "", at, "audit")
		run(1, "overdue at 1", "", at, "audit", "--grace=0s")
		run(1, "faults were found", "overdue at", at, "audit", "--grace=240h")
		run(0, "is complete", "", at, "backup", "--out="+folder)
	})

	replicas := 1
	if wait.Long() {
		replicas = 3
	}
	target := bustest.Start(t, bustest.Setup{Closed: true, Replicas: replicas})
	at := []string{"--nats-url=" + target.URL(), "--service-key=" + access.KeyFile(target.Keys, access.Operator),
		"--timeout=25s"}
	run(1, "engaged_alone at 2", "overdue at", at, "restore", folder, "--replicas="+strconv.Itoa(replicas),
		"--trust="+filepath.Join(data, "services", trustkey.AnchorFile))
	info, err := target.ConnectAs(t, access.Operator).JetStream().Stream(t.Context(), bus.LedgerStream)
	if err != nil || info.CachedInfo().Config.Replicas != replicas || info.CachedInfo().State.LastSeq != 2 {
		t.Errorf("the restored ledger: %+v (%v)", info.CachedInfo().State, err)
	}

	other := bustest.RunClosed(t, false)
	at = []string{"--nats-url=" + other.URL(), "--service-key=" + access.KeyFile(other.Keys, access.Operator),
		"--timeout=25s"}
	run(0, "The ledger had all of these faults before", "overdue at", at, "move", "--data="+data)
	run(2, "has moved", "", at, "move", "--data="+data)
	if _, err := os.Stat(filepath.Join(data, "MOVED")); err != nil {
		t.Error(err)
	}

	// A failed move leaves the system as it is, and no files behind.
	data = inside(t, func(string, string) {})
	run(2, "Nothing was restored", "", at, "move", "--data="+data)
	if left, err := filepath.Glob(filepath.Join(data, "move-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	if _, err := os.Stat(filepath.Join(data, "MOVED")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it has not moved: %v", err)
	}
}
