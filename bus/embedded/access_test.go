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

// The configuration files of external servers grant the same permissions as that of the embedded
// server.
func TestServersAreClosedAlike(t *testing.T) {
	public, err := access.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	embedded := &server.Options{}
	if err := embedded.ProcessConfigString(access.Conf(public, false)); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	issue(t, dir, false)
	tls := strings.ReplaceAll(read(t, "../../deploy/nats/tls.conf"), "/nats/keys", dir)
	for name, text := range map[string]string{
		"nats.conf": read(t, "../../deploy/nats/nats.conf"), "access.conf": read(t, "../../deploy/nats/access.conf"),
		"keys/keys.conf": public.Define(), "tls.conf": tls,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	external, err := server.ProcessConfigFile(filepath.Join(dir, "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if external.TLSConfig == nil {
		t.Error("nats.conf does not encrypt")
	}
	if !external.SyncAlways || external.NoAuthUser != "" {
		t.Errorf("SyncAlways = %v, no_auth_user = %q; want true and none", external.SyncAlways, external.NoAuthUser)
	}
	opts := []cmp.Option{
		cmpopts.SortSlices(func(a, b grant) bool { return a.Nkey < b.Nkey }),
	}
	if diff := cmp.Diff(grants(embedded), grants(external), opts...); diff != "" {
		t.Errorf("permissions (- embedded, + external):\n%s", diff)
	}
	if diff := cmp.Diff(embedded.AuthCallout, external.AuthCallout); diff != "" {
		t.Errorf("callout (- embedded, + external):\n%s", diff)
	}
	if embedded.SystemAccount != external.SystemAccount || embedded.AuthTimeout != external.AuthTimeout ||
		embedded.AuthTimeout != 1.5 {
		t.Errorf("system accounts %s and %s, timeouts %v and %v",
			embedded.SystemAccount, external.SystemAccount, embedded.AuthTimeout, external.AuthTimeout)
	}
	names := func(o *server.Options) (names []string) {
		for _, a := range o.Accounts {
			names = append(names, a.Name)
		}
		slices.Sort(names)
		return names
	}
	if diff := cmp.Diff([]string{"AUTH", "AUTHSVC", "PEOPLE", "PILLION", "RIDERSVC", "SYS", "USERSVC", "WATCH"}, names(external)); diff != "" {
		t.Errorf("accounts:\n%s", diff)
	}
}

// A grant is the permissions of one key, as a server has parsed them.
type grant struct {
	Nkey, Account             string
	Publish, Never, Subscribe []string
	Answers                   int
}

func grants(o *server.Options) (all []grant) {
	for _, u := range o.Nkeys {
		g := grant{
			Nkey: u.Nkey, Account: u.Account.Name, Publish: u.Permissions.Publish.Allow,
			Never: u.Permissions.Publish.Deny, Subscribe: u.Permissions.Subscribe.Allow,
		}
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
