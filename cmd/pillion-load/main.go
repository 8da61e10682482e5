// Command pillion-load puts a load on a running Pillion, as many users and riders would, and checks
// the result. See docs/load.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/load"
)

// unchecked is the exit status of a good load whose ledger was not checked.
const unchecked = 3

func main() {
	var l loader
	line := program.CommandLine{
		Description: "Books and rides on a running Pillion as many users and riders would, and checks the result. " +
			"Exit status: 0 all is well, 1 something is wrong, 2 a bad setting, 3 all is well but the ledger was not checked.",
		Grammar: &l,
	}
	status := program.Main("pillion-load", line.Run)
	if status == program.Stopped && l.unchecked {
		status = unchecked
	}
	os.Exit(status)
}

// settings is the command line.
type settings struct {
	setting.Version
	Auth  setting.WebURLs `name:"auth-url" env:"AUTH_URL" default:"http://127.0.0.1:3000" placeholder:"URLS" group:"Where:" help:"URLs of the instances of authsvc, separated by commas (default: ${default})."`
	User  setting.WebURLs `name:"user-url" env:"USER_URL" default:"http://127.0.0.1:3001" placeholder:"URLS" group:"Where:" help:"URLs of the instances of usersvc, separated by commas (default: ${default})."`
	Rider setting.WebURLs `name:"rider-url" env:"RIDER_URL" default:"http://127.0.0.1:3002" placeholder:"URLS" group:"Where:" help:"URLs of the instances of ridersvc, separated by commas (default: ${default})."`
	setting.Remote
	Key setting.Text `name:"operator-key" env:"OPERATOR_KEY_FILE" placeholder:"FILE" group:"Where:" help:"Operator's key for checking the ledger, such as data/services/operator.nk (default: none; the ledger is not checked)."`

	Users    setting.Count    `name:"users" env:"LOAD_USERS" default:"100" min:"1" max:"1000000" placeholder:"N" group:"Load:" help:"Number of users (default: ${default})."`
	Riders   setting.Count    `name:"riders" env:"LOAD_RIDERS" default:"50" min:"1" max:"1000000" placeholder:"N" group:"Load:" help:"Number of riders (default: ${default})."`
	Watchers setting.Count    `name:"watchers" env:"LOAD_WATCHERS" default:"100" min:"0" max:"1000000" placeholder:"N" group:"Load:" help:"Number of users, and of riders, that watch their bookings over NATS (default: ${default})."`
	Rate     setting.Real     `name:"rate" env:"LOAD_RATE" default:"10" min:"0.001" max:"100000" placeholder:"N" group:"Load:" help:"Bookings per second, however slow the answers are (default: ${default})."`
	Duration setting.Duration `name:"duration" env:"LOAD_DURATION" default:"30s" min:"1s" max:"720h" placeholder:"DURATION" group:"Load:" help:"How long users book (default: ${default})."`
	Think    setting.Duration `name:"think" env:"LOAD_THINK" default:"500ms" min:"1ms" max:"1h" placeholder:"DURATION" group:"Load:" help:"Pause of users and riders between two steps (default: ${default})."`
	InFlight setting.Count    `name:"in-flight" env:"LOAD_IN_FLIGHT" default:"1000" min:"1" max:"1000000" placeholder:"N" group:"Load:" help:"Maximum number of booking requests in flight; further ones are dropped and counted (default: ${default})."`
	Patience setting.Duration `name:"patience" env:"LOAD_PATIENCE" default:"30s" min:"1s" max:"1h" placeholder:"DURATION" group:"Load:" help:"How long a user or rider retries one step (default: ${default})."`
	Seed     setting.Count    `name:"seed" env:"LOAD_SEED" default:"0" min:"0" max:"2147483647" placeholder:"N" group:"Load:" help:"Seed of random choices; 0 takes a new one each time (default: ${default})."`
	Name     setting.Text     `name:"name" env:"LOAD_NAME" placeholder:"NAME" group:"Load:" help:"Prefix of account names. With LOAD_PASSWORD, a run can use the accounts of an earlier one (default: a random name)."`
	Password setting.Text     `name:"password" env:"LOAD_PASSWORD" placeholder:"WORDS" group:"Load:" help:"Password of all accounts; better set LOAD_PASSWORD (default: a random one)."`

	JSON        setting.Text   `name:"json" placeholder:"FILE" group:"Result:" help:"Write the report as JSON to a file, or to standard output with -."`
	Record      setting.Switch `name:"record" group:"Result:" help:"Include every call in the JSON."`
	setting.Log `set:"log_level=warn"`
}

// A loader is one run of the program.
type loader struct {
	settings
	unchecked bool
}

var errSetting = fault.New(fault.Invalid, "setting", "A setting is wrong.")

// Run runs the load, checks the ledger, and prints the report. It returns an error if anything is
// wrong.
func (l *loader) Run(ctx context.Context, env program.Env) (err error) {
	if l.Key.Value != "" {
		// a key created now would be unknown to the system
		if _, err := os.Stat(l.Key.Value); err != nil {
			return errSetting.Sayingf("--operator-key (OPERATOR_KEY_FILE): %v.", err)
		}
	}
	result, summary := io.Writer(nil), env.Stdout
	switch l.JSON.Value {
	case "":
	case "-":
		result, summary = env.Stdout, env.Stderr
	default:
		f, err := os.OpenFile(l.JSON.Value, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return errSetting.Sayingf("--json: %v.", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		result = f
	}
	return l.load(ctx, env, result, summary)
}

// load runs the load. It writes the report as JSON to result, unless that is nil, and as text to
// summary.
func (l *loader) load(ctx context.Context, env program.Env, result, summary io.Writer) error {
	line := newProgress(env.Stderr)
	report, err := load.Run(ctx, load.Config{
		Auth: l.Auth.Value, User: l.User.Value, Rider: l.Rider.Value,
		NATS: l.natsURL(), CA: l.CA.Value, Watchers: l.Watchers.Value,
		Users: l.Users.Value, Riders: l.Riders.Value, Rate: l.Rate.Value, Duration: l.Duration.Value,
		Think:    l.Think.Value,
		InFlight: l.InFlight.Value, Patience: l.Patience.Value, Seed: uint64(l.Seed.Value),
		Name: l.Name.Value, Password: l.Password.Value,
		Record: l.Record.On, Log: env.Logger(l.Log), Progress: line.show,
	})
	line.end()
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("stopped before the load began")
	case err != nil:
		return plain(err)
	}
	// even if a signal has ended the load
	failed := l.check(context.WithoutCancel(ctx), env, report)
	if err := report.Summarize(summary); err != nil {
		return err
	}
	if result != nil {
		encoder := json.NewEncoder(result)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(report); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if failed == nil && !report.Good() {
		failed = errors.New("the load found faults")
	}
	return failed
}

// natsURL returns the NATS server for watchers, or "" if there are none.
func (l *loader) natsURL() string {
	if l.Watchers.Value == 0 {
		return ""
	}
	return l.URL.Value
}

// plain reduces an error that keeps a load from starting to its message.
func plain(err error) error {
	if f := fault.From(err); f.Kind == fault.Unavailable {
		return errors.New(f.Message)
	}
	return err
}

// checkTimeout bounds the reading of the ledger, which may be large.
const checkTimeout = 10 * time.Minute

// check compares the report with the ledger, if there is an operator's key.
func (l *loader) check(ctx context.Context, env program.Env, report *load.Report) error {
	if l.unchecked = l.Key.Value == ""; l.unchecked {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	o := wiring.Operator{Log: env.Logger(l.Log), At: wiring.At(l.Remote, env.Name), Key: l.Key.Value}
	return o.Session(ctx, time.Hour, func(ctx context.Context, s wiring.OperatorSession) error {
		return load.Check(ctx, s.Ledger(), report)
	})
}
