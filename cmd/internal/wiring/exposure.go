package wiring

import (
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/fault"
)

// errInsecure refuses a setting that is safe only on an address that no other machine can reach.
var errInsecure = fault.New(fault.Invalid, "insecure",
	"A setting is unsafe where other machines can reach this one.")

// An Exposure is what a program shows to everybody who can reach its addresses.
type Exposure struct {
	setting.Profile
	Demo      bool           // whether there are accounts with a known password
	Clients   []net.Listener // for people's requests
	Encrypted bool           // whether HTTP is
	Ops       net.Listener
}

// Check refuses what is unsafe beyond loopback, unless it is allowed with --insecure, and warns of
// what is right behind a gateway only. Its error joins one sentence for each setting.
func (e Exposure) Check(log *slog.Logger) error {
	var refused []error
	refuse := func(flag, why string, at net.Listener) {
		if at != nil && !e.Insecure.On {
			refused = append(refused, errInsecure.Saying(fmt.Sprintf(
				"%s %s, and other machines can reach %s. Listen on a loopback address, or allow it with --insecure "+
					"(PILLION_INSECURE).", flag, why, at.Addr())))
		}
	}
	open, ops := reachable(e.Clients...), reachable(e.Ops)
	if e.Demo {
		refuse("--demo (PILLION_DEMO)", "makes accounts whose password everybody knows", open)
	}
	if e.PProf.On {
		refuse("--pprof (PILLION_PPROF)", "shows what the process does without a login", ops)
	}
	if refused != nil {
		return errors.Join(refused...)
	}
	if open != nil && !e.Encrypted {
		log.Warn("HTTP is not encrypted, and other machines can reach it. That is right behind a gateway that "+
			"encrypts; otherwise set --tls-cert and --tls-key", "address", open.Addr().String())
	}
	if ops != nil {
		log.Warn("Other machines can reach the ops address, which needs no login. Let operators alone reach it",
			"address", ops.Addr().String())
	}
	return nil
}

// reachable returns the first listener that other machines can reach, or nil.
func reachable(listeners ...net.Listener) net.Listener {
	for _, ln := range listeners {
		if a, ok := ln.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
			return ln
		}
	}
	return nil
}
