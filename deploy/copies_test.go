//go:build docker

package deploy_test

import (
	"net/url"
	"testing"

	"github.com/example/pillion/authsvc/postgres/postgrestest"
	"github.com/example/pillion/internal/wait"
)

// The commands that copy to other places. VOLUME has the data folder of a stopped pillion; FOLDER
// has the socket of a PostgreSQL server, and KEYS authsvc's trust key.
const (
	move         = "-v VOLUME:/old ops pillion move --data /old"
	copyAccounts = `-v FOLDER:/socket -v KEYS:/authsvc:ro ops authsvc accounts copy --from nats --to "DATABASE"` +
		` --trust-key /authsvc/trust.key`
)

// accountsAreCopied copies the accounts to a PostgreSQL server on this machine, through its socket.
// It is skipped without PostgreSQL.
func (s *stack) accountsAreCopied(t *testing.T) {
	server := postgrestest.Start(t)
	u, err := url.Parse(server.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = url.Values{"host": {"/socket"}, "port": {u.Port()}}.Encode()
	ids := map[string]string{"FOLDER": server.Folder(), "DATABASE": u.String(), "KEYS": s.project + "_key-authsvc"}
	s.errand(t, errand{copyAccounts, 0, " copied, 0 had been copied before, 0 differ."}, ids)
	s.errand(t, errand{copyAccounts, 0, "0 copied, "}, ids)
}

// old runs a pillion in a container of its own, stops it, and returns the volume of its data
// folder.
func (s *stack) old(t *testing.T) (volume string) {
	t.Helper()
	name, image := s.project+"-old", s.inspect(t, "provision", "{{.Config.Image}}")
	docker(t, "volume", "create", name)
	t.Cleanup(func() { docker(t, "volume", "rm", name) })
	docker(t, "run", "-d", "--name", name, "--network", "none", "-v", name+":/data", image)
	t.Cleanup(func() { docker(t, "rm", "-f", name) })
	wait.Until(t, "the old pillion is healthy", func() bool {
		return docker(t, "inspect", "--format", "{{.State.Health.Status}}", name) == "healthy"
	})
	docker(t, "stop", name)
	if status := docker(t, "inspect", "--format", "{{.State.ExitCode}}", name); status != "0" {
		t.Errorf("the old pillion stopped with status %s:\n%s", status, docker(t, "logs", "--tail=60", name))
	}
	return name
}

// lose loses the disk of NATS. Only NATS runs afterwards.
func (s *stack) lose(t *testing.T) {
	t.Helper()
	s.compose(t, "rm", "-sf", "nats", "authsvc", "usersvc", "ridersvc")
	docker(t, "volume", "rm", s.project+"_nats")
	s.compose(t, "up", "-d", "nats")
}
