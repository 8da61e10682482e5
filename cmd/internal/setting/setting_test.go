package setting_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/cmd/internal/setting"
)

// grammar has a setting of every type, as the programs declare them.
type grammar struct {
	setting.Version
	Run  settings `cmd:"" default:"withargs" help:"Run it."`
	Idle struct{} `cmd:"" help:"Do nothing."`
}

type settings struct {
	Addr setting.Addr `name:"addr" env:"ADDR" default:"127.0.0.1:3000" help:"Where."`
	Home setting.Addr `name:"home" env:"HOME_ADDR" default:"127.0.0.1:4222" help:"Where at home."`
	Sync setting.Sync `name:"sync" env:"SYNC" default:"always" help:"When."`
	setting.Log
	setting.Ledger
	setting.Keys
	setting.Rides
	setting.Bookings
	setting.HTTP
	setting.Streams
	setting.Snapshots
	setting.Remote
	setting.Profile
}

// environment lists all variables of the grammar. Tests clear them, so that the caller's
// environment has no effect.
var environment = []string{
	"ADDR", "HOME_ADDR", "SYNC", "LOG_LEVEL", "LOG_FORMAT", "LEDGER_AGE", "LEDGER_SIZE", "REPLICAS", "PILLION_DATA",
	"PRIVATE_KEY_FILE",
	"JWT_EXPIRY", "SESSION_LIFE", "SESSION_IDLE", "REFRESH_GRACE", "COOKIE_PATH", "PILLION_DEMO", "BOOKING_DEADLINE",
	"RIDES_SECRET_FILE", "TARIFF_FILE", "AUDIT_AGE", "AUDIT_SIZE", "ACCOUNTS", "APPROVE_RIDERS", "BOOK_LIMIT",
	"LOGIN_LIMIT", "ADDRESS_LIMIT",
	"REQUEST_LIMIT", "SNAPSHOT_EVERY", "SNAPSHOT_EVENTS", "PICKUP_PATIENCE", "KEY_AGE", "TRUSTED_PROXIES", "NATS_URL",
	"PILLION_PPROF",
}

func parse(t *testing.T, env map[string]string, args ...string) (settings, string, error) {
	t.Helper()
	for _, name := range environment {
		t.Setenv(name, env[name]) // an empty variable counts as unset, which has its own test
	}
	var g grammar
	var out bytes.Buffer
	chosen, err := setting.Parse(setting.Program{Name: "prog", Description: "A program.", Version: "1.2.3",
		Stdout: &out}, &g, args)
	if err == nil && chosen.Command() != "run" {
		t.Errorf("command is %q", chosen.Command())
	}
	return g.Run, out.String(), err
}

func TestDefaults(t *testing.T) {
	s, _, err := parse(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{
		"addr":             s.Addr.Value == "127.0.0.1:3000",
		"sync":             s.Sync.Always,
		"log level":        s.Log.Level.Value == "info",
		"log format":       s.Format.Value == "",
		"ledger age":       s.Age.Value == 720*time.Hour,
		"ledger size":      s.Size.Value == 4<<30,
		"replicas":         s.Replicas.Value == 1,
		"data":             s.Data.Value == "./data",
		"key file":         s.KeyFile() == filepath.Join("data", "keys", "private.key"),
		"jwt expiry":       s.JWTExpiry.Value == 15*time.Minute,
		"session life":     s.Life.Value == 168*time.Hour,
		"session idle":     s.Idle.Value == 72*time.Hour,
		"refresh grace":    s.Grace.Value == 10*time.Second,
		"demo":             !s.Demo.On,
		"booking deadline": s.Deadline.Value == 2*time.Minute,
		"nats url":         s.URL.Value == "nats://127.0.0.1:4222",
		"pprof":            !s.PProf.On,
	} {
		if !ok {
			t.Errorf("%s: not its default", name)
		}
	}
}

// TestFlagAndEnvironment reads each setting from its flag and from its variable. The flag overrides
// the variable.
func TestFlagAndEnvironment(t *testing.T) {
	for _, c := range []struct {
		flag, env, value string
		got              func(settings) any
		want             any
	}{
		{"addr", "ADDR", "0.0.0.0:0", func(s settings) any { return s.Addr.Value }, "0.0.0.0:0"},
		{"addr", "ADDR", ":8080", func(s settings) any { return s.Addr.Value }, ":8080"},
		{"home", "HOME_ADDR", "[::1]:0", func(s settings) any { return s.Home.Value }, "[::1]:0"},
		{"home", "HOME_ADDR", "[::1]:0", func(s settings) any { return s.Home.Loopback() }, true},
		{"home", "HOME_ADDR", "localhost:1", func(s settings) any { return s.Home.Loopback() }, true},
		{"home", "HOME_ADDR", ":4222", func(s settings) any { return s.Home.Loopback() }, false},
		{"home", "HOME_ADDR", "0.0.0.0:4222", func(s settings) any { return s.Home.Loopback() }, false},
		{"home", "HOME_ADDR", "localhost:5222", func(s settings) any { return s.Home.Value }, "localhost:5222"},
		{"sync", "SYNC", "250ms", func(s settings) any { return s.Sync.Interval }, 250 * time.Millisecond},
		{"log-level", "LOG_LEVEL", "debug", func(s settings) any { return s.Log.Level.Value }, "debug"},
		{"log-format", "LOG_FORMAT", "text", func(s settings) any { return s.Format.Value }, "text"},
		{"ledger-age", "LEDGER_AGE", "24h", func(s settings) any { return s.Age.Value }, 24 * time.Hour},
		{"ledger-size", "LEDGER_SIZE", "512MiB", func(s settings) any { return s.Size.Value }, int64(512 << 20)},
		{"ledger-size", "LEDGER_SIZE", "2048KiB", func(s settings) any { return s.Size.Value }, int64(2 << 20)},
		{"ledger-size", "LEDGER_SIZE", "1TiB", func(s settings) any { return s.Size.Value }, int64(1 << 40)},
		{"replicas", "REPLICAS", "3", func(s settings) any { return s.Replicas.Value }, 3},
		{"data", "PILLION_DATA", "/srv/x", func(s settings) any { return s.KeyFile() }, "/srv/x/keys/private.key"},
		{"private-key", "PRIVATE_KEY_FILE", "/etc/k.pem", func(s settings) any { return s.KeyFile() }, "/etc/k.pem"},
		{"jwt-expiry", "JWT_EXPIRY", "24h", func(s settings) any { return s.JWTExpiry.Value }, 24 * time.Hour},
		{"session-life", "SESSION_LIFE", "24h", func(s settings) any { return s.Life.Value }, 24 * time.Hour},
		{"session-idle", "SESSION_IDLE", "0", func(s settings) any { return s.Idle.Value }, time.Duration(0)},
		{"snapshot-every", "SNAPSHOT_EVERY", "0", func(s settings) any { return s.Every.Value }, time.Duration(0)},
		{"snapshot-every", "SNAPSHOT_EVERY", "1s", func(s settings) any { return s.Every.Value }, time.Second},
		{"pickup-patience", "PICKUP_PATIENCE", "0s", func(s settings) any { return s.Patience.Value }, time.Duration(0)},
		{"key-age", "KEY_AGE", "0h", func(s settings) any { return s.KeyAge.Value }, time.Duration(0)},
		{"refresh-grace", "REFRESH_GRACE", "0s", func(s settings) any { return s.Grace.Value }, time.Duration(0)},
		{"cookie-path", "COOKIE_PATH", "/api/auth", func(s settings) any { return s.CookiePath.Value }, "/api/auth"},
		{"demo", "PILLION_DEMO", "true", func(s settings) any { return s.Demo.On }, true},
		{"demo", "PILLION_DEMO", "0", func(s settings) any { return s.Demo.On }, false},
		{"booking-deadline", "BOOKING_DEADLINE", "1s", func(s settings) any { return s.Deadline.Value }, time.Second},
		{"nats-url", "NATS_URL", "nats://a:1, tls://b", func(s settings) any { return s.URL.Value }, "nats://a:1, tls://b"},
	} {
		s, _, err := parse(t, nil, "--"+c.flag+"="+c.value)
		if err != nil || c.got(s) != c.want {
			t.Errorf("--%s=%s: %v, %v", c.flag, c.value, c.got(s), err)
		}
		s, _, err = parse(t, map[string]string{c.env: c.value})
		if err != nil || c.got(s) != c.want {
			t.Errorf("%s=%s: %v, %v", c.env, c.value, c.got(s), err)
		}
		if s, _, err = parse(t, map[string]string{c.env: "!"}, "--"+c.flag+"="+c.value); err != nil ||
			c.got(s) != c.want {
			t.Errorf("--%s=%s over a bad %s: %v, %v", c.flag, c.value, c.env, c.got(s), err)
		}
	}
	if s, _, err := parse(t, nil, "--demo"); err != nil || !s.Demo.On {
		t.Errorf("--demo alone: %v, %v", s.Demo.On, err)
	}
}

// TestEverythingWrongAtOnce checks that all bad values are reported together. Each message names
// the setting, its variable and what the value must be.
func TestEverythingWrongAtOnce(t *testing.T) {
	const secret = "hunter2"
	_, _, err := parse(t, map[string]string{
		"JWT_EXPIRY": "25h", "LOG_LEVEL": "loud", "REPLICAS": "2", "PILLION_DEMO": "maybe", "SESSION_LIFE": "8d",
		"NATS_URL": "http://me:" + secret + "@nats",
	}, "--addr=3000", "--sync=never", "--ledger-size=4GB", "--ledger-age=1m", "--booking-deadline=-2m",
		"--log-format=xml",
		"--session-idle=-1s", "--refresh-grace=2m")
	if !errors.Is(err, setting.ErrSetting) {
		t.Fatalf("not an ErrSetting: %v", err)
	}
	got := err.Error()
	for _, want := range []string{
		`--addr (ADDR) must be an address to listen on such as 127.0.0.1:3000, with a port from 0 to 65535; it is "3000".`,
		`--sync (SYNC) must be always, or a duration from 10ms to 1h, such as 90s or 15m; it is "never".`,
		`--log-level (LOG_LEVEL) must be debug, info, warn or error; it is "loud".`,
		`--log-format (LOG_FORMAT) must be text or json; it is "xml".`,
		`--ledger-age (LEDGER_AGE) must be a duration from 1h to 87600h, such as 90s or 15m; it is "1m".`,
		`--ledger-size (LEDGER_SIZE) must be a size of at least 1MiB, such as 512MiB or 4GiB; it is "4GB".`,
		`--replicas (REPLICAS) must be 1, 3 or 5; it is "2".`,
		`--jwt-expiry (JWT_EXPIRY) must be a duration from 1s to 24h, such as 90s or 15m; it is "25h".`,
		`--session-life (SESSION_LIFE) must be a duration from 1m to 168h, such as 90s or 15m; it is "8d".`,
		`--session-idle (SESSION_IDLE) must be 0 (no limit), or a duration from 1m to 168h, such as 90s or 15m; it is "-1s".`,
		`--refresh-grace (REFRESH_GRACE) must be a duration from 0s to 1m, such as 90s or 15m; it is "2m".`,
		`--demo (PILLION_DEMO) must be true or false; it is "maybe".`,
		`--booking-deadline (BOOKING_DEADLINE) must be a duration from 1s to 24h, such as 90s or 15m; it is "-2m".`,
		`--nats-url (NATS_URL) must look like nats://host:4222 (several are separated by commas).`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if n := strings.Count(got, "\n") + 1; n != 14 {
		t.Errorf("%d sentences, want 14:\n%s", n, got)
	}
	if strings.Contains(got, secret) {
		t.Error("a message contains the password of a URL")
	}
}

func TestWrongValues(t *testing.T) {
	for _, arg := range []string{
		"--addr=127.0.0.1", "--addr=127.0.0.1:65536", "--addr=127.0.0.1:-1", "--addr=127.0.0.1:http", "--addr=::1:80",
		"--sync=0s", "--sync=2h", "--sync=Always",
		"--ledger-size=-1GiB", "--ledger-size=1.5GiB", "--ledger-size=1023KiB", "--ledger-size=9999999TiB",
		"--ledger-size=4294967296", "--ledger-size=GiB",
		"--replicas=0", "--replicas=03", "--replicas=three",
		"--snapshot-every=10ns", "--snapshot-every=999ms", "--snapshot-every=-0.1s", "--snapshot-events=0",
		"--pickup-patience=1ns", "--session-idle=1s",
		"--key-age=1ns", "--key-age=never",
		"--jwt-expiry=0", "--jwt-expiry=900", "--jwt-expiry=24h0m1s",
		"--nats-url=nats://", "--nats-url=127.0.0.1:4222", "--nats-url=nats://a,ws://b", "--nats-url=nats://a,",
		"--demo=maybe", "--log-level=INFO+1",
		"--bogus", "stray", "--jwt-expiry",
	} {
		if _, _, err := parse(t, nil, arg); !errors.Is(err, setting.ErrSetting) {
			t.Errorf("%s: %v, want an ErrSetting", arg, err)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	_, out, err := parse(t, map[string]string{"JWT_EXPIRY": "wrong"}, "--help")
	if !errors.Is(err, setting.ErrAnswered) {
		t.Errorf("--help: %v", err)
	}
	for _, want := range []string{"A program.", "--jwt-expiry", "JWT_EXPIRY", "(default: 720h)", "--version", "idle"} {
		if !strings.Contains(out, want) {
			t.Errorf("--help does not mention %s:\n%s", want, out)
		}
	}
	if _, out, err = parse(t, nil, "--version"); !errors.Is(err, setting.ErrAnswered) || out != "prog 1.2.3\n" {
		t.Errorf("--version: %q, %v", out, err)
	}
}

func TestCountsAndNetworks(t *testing.T) {
	s, _, err := parse(t, map[string]string{"BOOK_LIMIT": "0",
		"TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.7,::ffff:192.0.2.8,2001:db8::/32"})
	if err != nil || s.Limit.Value != 0 ||
		fmt.Sprint(s.TrustedProxies.Value) != "[10.0.0.0/8 192.0.2.7/32 192.0.2.8/32 2001:db8::/32]" {
		t.Errorf("%v, %v (%v)", s.Limit.Value, s.TrustedProxies.Value, err)
	}
	for _, args := range [][]string{
		{"--book-limit=-1"}, {"--book-limit=many"}, {"--book-limit=1.5"}, {"--login-limit=0"}, {"--login-limit=1001"},
		{"--trusted-proxies=proxy"}, {"--trusted-proxies=10.0.0.1/8"}, {"--trusted-proxies=0.0.0.0/0"}, {"--trusted-proxies=::/0"}, {"--trusted-proxies=10.0.0.0/8,"},
	} {
		_, _, err := parse(t, nil, args...)
		if name, _, _ := strings.Cut(args[0], "="); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want a word about it", args[0], err)
		}
	}
}
