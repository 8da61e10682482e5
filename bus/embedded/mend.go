package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/example/pillion/internal/fault"
)

// NATS closes a stream to writes for good after one write to the disk has failed, and all of
// JetStream after some: what it has in memory may differ from what the disk has. Only opening it
// anew helps. See ADR 21.
const (
	healthEvery = time.Second
	// mendPause is how often it is tried whether the disk takes writes. Where the server was opened
	// anew and a write failed again within mendGood, the pause before the next time is twice as
	// long, up to mendPauseMost.
	mendPause     = time.Second
	mendPauseMost = 5 * time.Second
	mendGood      = 30 * time.Second
	// trialSize is what a disk must take to be worth another attempt: a block of a stream and more.
	trialSize = 1 << 20
)

// ErrDisk says that the store takes no writes at the moment. Its message says why, to operators.
var ErrDisk = fault.New(fault.Unavailable, "disk_failed",
	"The disk does not take what is written to it. Free some space, or see to the disk; then it goes on by itself.").After(2 * time.Second)

// Ready returns nil, or ErrDisk from the moment when a write to the disk is known to have failed
// until the streams have been opened anew.
func (s *Server) Ready(context.Context) error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// mend opens the server anew whenever a write has failed, until ctx ends.
func (s *Server) mend(ctx context.Context) {
	defer close(s.done)
	pause := mendPause
	var mended time.Time
	for sleep(ctx, healthEvery) {
		why := s.failed()
		if why == nil {
			continue
		}
		if pause = min(2*pause, mendPauseMost); time.Since(mended) > mendGood {
			pause = mendPause
		}
		for why != nil {
			s.breaks(why)
			if !sleep(ctx, pause) {
				return
			}
			if why = s.try(); why == nil {
				why = s.reopen()
			}
		}
		mended = time.Now()
		s.broken.Store(nil)
		s.config.Log.Info("the store of NATS was opened anew, and takes writes again")
	}
}

// breaks notes that nothing can be written, and why. It says so once.
func (s *Server) breaks(why error) {
	err := error(ErrDisk.Saying(fmt.Sprintf("The disk of %s does not take what is written to it: %v. %s", s.config.Dir, why, s.advice())).Because(why))
	if s.broken.Swap(&err) == nil {
		s.config.Log.Error("a write of NATS to the disk has failed; its store is opened anew as soon as the disk takes writes", "error", why)
	}
}

// sleep returns false when ctx ends before d has passed.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// failed returns which write has failed, by the server's own word, or nil.
func (s *Server) failed() error {
	for _, e := range s.health() {
		if e.Type == server.HealthzErrorJetStream || strings.Contains(e.Error, "write error") {
			return errors.New(e.Error)
		}
	}
	return nil
}

func (s *Server) health() []server.HealthzError {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.srv.Healthz(&server.HealthzOptions{Details: true}).Errors
}

// reopen starts the server anew. Clients connect again by themselves.
func (s *Server) reopen() error {
	s.close()
	if err := s.open(); err != nil {
		return err
	}
	return s.failed()
}

// try writes to the disk what a stream would.
func (s *Server) try() (err error) {
	f, err := os.Create(filepath.Join(s.config.Dir, "trial"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := f.Write(make([]byte, trialSize)); err != nil {
		return err
	}
	return f.Sync()
}

// intact returns ErrData where something in the folder could not be opened, such as the data of an
// older or a newer Pillion: the server itself would pass it over, and all would look as if there
// had never been anything.
func (s *Server) intact() error {
	var what []string
	for _, e := range s.health() {
		what = append(what, e.Error)
	}
	if what == nil {
		return nil
	}
	return ErrData.Saying(fmt.Sprintf("The data in %s cannot be opened: %s. Nothing was changed. Use the version of Pillion that made them, "+
		"restore a backup, or choose another folder with --data.", s.config.Dir, strings.Join(what, "; ")))
}
