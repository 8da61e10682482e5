package callout_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"pillion/bus"
	"pillion/bus/access"
	"pillion/bus/bustest"
	"pillion/token"
	"pillion/token/tokentest"
)

// What it costs to connect: to a server that is open to everybody, with a key that the server knows, and with a token that it asks authsvc about.
func BenchmarkConnect(b *testing.B) {
	open, closed, auth := bustest.Run(b), bustest.RunClosed(b, false), tokentest.New(b)
	closed.Door(b, auth)
	key, err := bus.LoadOrCreateServiceKey(access.KeyFile(closed.Keys, access.Usersvc))
	if err != nil {
		b.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		b.Fatal(err)
	}
	raw := auth.Token(token.User, tokentest.Ulla, "ulla@example.com")
	for _, c := range []struct {
		name    string
		url     string
		options []nats.Option
	}{
		{"open", open.URL(), nil},
		{"key", closed.URL(), []nats.Option{nats.Nkey(public, key.Sign)}},
		{"token", closed.URL(), []nats.Option{nats.Token(raw)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				nc, err := nats.Connect(c.url, c.options...)
				if err != nil {
					b.Fatal(err)
				}
				nc.Close()
			}
		})
	}
}

// What permissions cost a message: to an open server, and to one that looks whether usersvc may publish it.
func BenchmarkPublish(b *testing.B) {
	open, closed := bustest.Run(b), bustest.RunClosed(b, false)
	for _, c := range []struct {
		name string
		conn *bus.Conn
	}{{"open", open.Connect(b)}, {"permissions", closed.ConnectAs(b, access.Usersvc)}} {
		b.Run(c.name, func(b *testing.B) {
			js := c.conn.JetStream()
			for b.Loop() {
				if _, err := js.Publish(b.Context(), "quarantine.1", []byte("{}")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
