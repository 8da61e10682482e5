package embedded_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/example/pillion/bus/access"
)

// The configuration of a server in a container, with the keys that it includes, closes it as the embedded server is closed.
func TestServersAreClosedAlike(t *testing.T) {
	public, err := access.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inside := &server.Options{}
	if err := inside.ProcessConfigString(access.Conf(public, false)); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	issue(t, dir, false)
	tls := strings.ReplaceAll(read(t, "../../deploy/nats/tls.conf"), "/nats/keys", dir)
	for name, text := range map[string]string{
		"nats.conf": read(t, "../../deploy/nats/nats.conf"), "access.conf": read(t, "../../deploy/nats/access.conf"), "keys/keys.conf": public.Define(),
		"tls.conf": tls,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere, err := server.ProcessConfigFile(filepath.Join(dir, "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if elsewhere.TLSConfig == nil {
		t.Error("it does not encrypt")
	}
	if !elsewhere.SyncAlways || elsewhere.NoAuthUser != "" {
		t.Errorf("it writes to disk at once: %v; and takes who brings nothing for %q", elsewhere.SyncAlways, elsewhere.NoAuthUser)
	}
	opts := []cmp.Option{
		cmpopts.SortSlices(func(a, b grant) bool { return a.Nkey < b.Nkey }),
	}
	if diff := cmp.Diff(grants(inside), grants(elsewhere), opts...); diff != "" {
		t.Errorf("who may do what (- inside, + elsewhere):\n%s", diff)
	}
	if diff := cmp.Diff(inside.AuthCallout, elsewhere.AuthCallout); diff != "" {
		t.Errorf("the callout (- inside, + elsewhere):\n%s", diff)
	}
	if inside.SystemAccount != elsewhere.SystemAccount || inside.AuthTimeout != elsewhere.AuthTimeout || inside.AuthTimeout != 1.5 {
		t.Errorf("system account %s and %s, patience %v and %v", inside.SystemAccount, elsewhere.SystemAccount, inside.AuthTimeout, elsewhere.AuthTimeout)
	}
	names := func(o *server.Options) (names []string) {
		for _, a := range o.Accounts {
			names = append(names, a.Name)
		}
		slices.Sort(names)
		return names
	}
	if diff := cmp.Diff([]string{"AUTH", "PILLION", "SYS", "WATCH"}, names(elsewhere)); diff != "" {
		t.Errorf("accounts:\n%s", diff)
	}
}

// A grant is what a server has read of one key.
type grant struct {
	Nkey, Account             string
	Publish, Never, Subscribe []string
	Answers                   int
}

func grants(o *server.Options) (all []grant) {
	for _, u := range o.Nkeys {
		g := grant{Nkey: u.Nkey, Account: u.Account.Name, Publish: u.Permissions.Publish.Allow, Never: u.Permissions.Publish.Deny, Subscribe: u.Permissions.Subscribe.Allow}
		if u.Permissions.Response != nil {
			g.Answers = u.Permissions.Response.MaxMsgs
		}
		all = append(all, g)
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
