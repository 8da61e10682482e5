package program

import (
	"errors"
	"net"

	"github.com/example/pillion/internal/fault"
)

// ErrListen means that an address cannot be bound. Its message names the address and the reason.
var ErrListen = fault.New(fault.Invalid, "listen", "The program cannot listen on an address.")

// A ListenAddr is an address from the settings of a program.
type ListenAddr struct {
	Name string // what listens there, for messages
	Flag string // the flag that sets it, with its variable: "--user-addr (USER_ADDR)"
	Addr string // host:port
}

// Bind listens on all addresses, or on none. Its error joins one ErrListen for each address that
// cannot be bound. The caller closes the listeners.
func Bind(addrs ...ListenAddr) ([]net.Listener, error) {
	var listeners []net.Listener
	var failed []error
	for _, a := range addrs {
		ln, err := net.Listen("tcp", a.Addr)
		if err != nil {
			failed = append(failed,
				ErrListen.Sayingf("%s cannot listen on %s: %s. Choose another address with %s.",
					a.Name, a.Addr, fault.Reason(err), a.Flag).Because(err))
			continue
		}
		listeners = append(listeners, ln)
	}
	if failed != nil {
		Close(listeners)
		return nil, errors.Join(failed...)
	}
	return listeners, nil
}

// Close closes listeners. A server may have closed some of them already.
func Close(listeners []net.Listener) {
	for _, ln := range listeners {
		_ = ln.Close()
	}
}
