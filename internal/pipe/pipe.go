// Package pipe connects the HTTP clients and servers of one process without sockets, which also
// works in a bubble of testing/synctest.
//
// A server accepts from a [Listener], and a client's transport dials it with [Listener.Dial].
package pipe

import (
	"context"
	"net"
	"sync"
)

// A Listener accepts what [Listener.Dial] connects. Make it with [Listen], and close it.
type Listener struct {
	dialed chan net.Conn
	closed chan struct{}
	close  func()
}

var _ net.Listener = (*Listener)(nil)

// Listen returns a listener.
func Listen() *Listener {
	l := &Listener{dialed: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Dial returns a connection that the listener accepts. Errors: those of ctx, and [net.ErrClosed];
// each is in a [net.OpError] of a dial.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	why := net.ErrClosed
	select {
	case l.dialed <- theirs:
		return ours, nil
	case <-l.closed:
	case <-ctx.Done():
		why = ctx.Err()
	}
	return nil, &net.OpError{Op: "dial", Net: l.Addr().Network(), Addr: l.Addr(), Err: why}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.dialed:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections that were accepted stay open.
func (l *Listener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener. It is no address that anybody could dial.
func (l *Listener) Addr() net.Addr { return address{} }

type address struct{}

func (address) Network() string { return "pipe" }
func (address) String() string  { return "pipe" }
