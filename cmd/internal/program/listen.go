package program

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/example/pillion/internal/fault"
)

// ErrListen says that an address cannot be listened on. Its message says which and why.
var ErrListen = fault.New(fault.Invalid, "listen", "An address cannot be listened on.")

// A Place is an address that a program is told to listen on.
type Place struct {
	Name string // what listens there
	Flag string // the flag that chose it
	Addr string
}

// Bind listens on all places, or on none. Its error joins one ErrListen for each place where that is not possible. The caller
// closes the listeners.
func Bind(places ...Place) ([]net.Listener, error) {
	var listeners []net.Listener
	var failed []error
	for _, p := range places {
		ln, err := net.Listen("tcp", p.Addr)
		if err != nil {
			failed = append(failed, ErrListen.Saying(fmt.Sprintf("%s cannot listen on %s: %s. Choose another address with %s.",
				p.Name, p.Addr, reason(err), p.Flag)).Because(err))
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

// Close closes listeners that may have been closed already by whoever served on them.
func Close(listeners []net.Listener) {
	for _, ln := range listeners {
		_ = ln.Close()
	}
}

// reason takes the part of a network error that says what is wrong and not where.
func reason(err error) string {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err.Error()
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}
