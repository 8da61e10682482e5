package bus

import "testing"

// Others can read a connection that leaves this machine unencrypted.
func TestReadable(t *testing.T) {
	for _, c := range []struct {
		addr      string
		encrypted bool
		want      bool
	}{
		{"127.0.0.1:4222", false, false},
		{"127.9.9.9:4222", false, false},
		{"[::1]:4222", false, false},
		{"[::ffff:127.0.0.1]:4222", false, false},
		{"10.1.2.3:4222", false, true},
		{"[2001:db8::1]:4222", false, true},
		{"[fe80::1%eth0]:4222", false, true},
		{"10.1.2.3:4222", true, false},
		{"", false, false}, // it is gone already
	} {
		if got := readable(c.addr, c.encrypted); got != c.want {
			t.Errorf("%q, encrypted %v: %v", c.addr, c.encrypted, got)
		}
	}
}
