// Command pillion-load puts a load on a running Pillion, as many users and riders would, and checks what became of it. See docs/load.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/load"
)

// unchecked is the exit status of a load with which nothing is wrong as far as can be seen without the ledger.
const unchecked = 3

func main() {
	var l loader
	status := program.Main("pillion-load", l.run)
	if status == program.Stopped && l.unchecked {
		status = unchecked
	}
	os.Exit(status)
}

// settings is the command line.
type settings struct {
	setting.Version
	Auth  setting.WebURLs `name:"auth-url" env:"AUTH_URL" default:"http://127.0.0.1:3000" placeholder:"URLS" group:"Where:" help:"The instances of authsvc (default: ${default})."`
	User  setting.WebURLs `name:"user-url" env:"USER_URL" default:"http://127.0.0.1:3001" placeholder:"URLS" group:"Where:" help:"The instances of usersvc (default: ${default})."`
	Rider setting.WebURLs `name:"rider-url" env:"RIDER_URL" default:"http://127.0.0.1:3002" placeholder:"URLS" group:"Where:" help:"The instances of ridersvc (default: ${default})."`
	setting.Remote
	Key setting.Text `name:"operator-key" env:"OPERATOR_KEY_FILE" placeholder:"FILE" group:"Where:" help:"The operator's key, to check the ledger with, such as data/services/operator.nk (default: none, and no check)."`

	Users    setting.Count    `name:"users" env:"LOAD_USERS" default:"100" min:"1" max:"1000000" placeholder:"N" group:"Load:" help:"How many users book (default: ${default})."`
	Riders   setting.Count    `name:"riders" env:"LOAD_RIDERS" default:"50" min:"1" max:"1000000" placeholder:"N" group:"Load:" help:"How many riders accept (default: ${default})."`
	Watchers setting.Count    `name:"watchers" env:"LOAD_WATCHERS" default:"100" min:"0" max:"1000000" placeholder:"N" group:"Load:" help:"How many of the users, and of the riders, watch over NATS (default: ${default})."`
	Rate     setting.Real     `name:"rate" env:"LOAD_RATE" default:"10" min:"0.001" max:"100000" placeholder:"N" group:"Load:" help:"Bookings a second, however slow the answers are (default: ${default})."`
	Duration setting.Duration `name:"duration" env:"LOAD_DURATION" default:"30s" min:"1s" max:"720h" placeholder:"DURATION" group:"Load:" help:"How long bookings are asked for (default: ${default})."`
	Think    setting.Duration `name:"think" env:"LOAD_THINK" default:"500ms" min:"1ms" max:"1h" placeholder:"DURATION" group:"Load:" help:"How long people take between one step and the next (default: ${default})."`
	InFlight setting.Count    `name:"in-flight" env:"LOAD_IN_FLIGHT" default:"1000" min:"1" max:"1000000" placeholder:"N" group:"Load:" help:"Bookings asked for at the same time; what is due beyond them is dropped and counted (default: ${default})."`
	Patience setting.Duration `name:"patience" env:"LOAD_PATIENCE" default:"30s" min:"1s" max:"1h" placeholder:"DURATION" group:"Load:" help:"How long somebody goes on trying one thing (default: ${default})."`
	Seed     setting.Count    `name:"seed" env:"LOAD_SEED" default:"0" min:"0" max:"2147483647" placeholder:"N" group:"Load:" help:"What is left to chance comes from it; 0 is another one each time (default: ${default})."`
	Name     setting.Text     `name:"name" env:"LOAD_NAME" placeholder:"NAME" group:"Load:" help:"What the accounts are called. With LOAD_PASSWORD, a run may use those of an earlier one (default: a random name)."`
	Password setting.Text     `name:"password" env:"LOAD_PASSWORD" placeholder:"WORDS" group:"Load:" help:"The password of all accounts; rather set LOAD_PASSWORD (default: a random one)."`

	JSON   setting.Text   `name:"json" placeholder:"FILE" group:"Result:" help:"Write the result as JSON into a file, or with - to standard output."`
	Record setting.Switch `name:"record" group:"Result:" help:"Every call is in the JSON."`
	Level  setting.Choice `name:"log-level" env:"LOG_LEVEL" default:"warn" oneof:"debug info warn error" placeholder:"LEVEL" group:"Log:" help:"debug, info, warn or error (default: ${default})."`
	Format setting.Choice `name:"log-format" env:"LOG_FORMAT" default:"" oneof:"text json" placeholder:"FORMAT" group:"Log:" help:"text or json (default: text on a terminal, else json)."`
}

// A loader is one run of the program.
type loader struct {
	settings
	unchecked bool
}

var errSetting = fault.New(fault.Invalid, "setting", "A setting is wrong.")

// run puts on the load, checks, and prints. It returns an error where anything is wrong.
func (l *loader) run(ctx context.Context, env program.Env) (err error) {
	if _, err := setting.Parse(setting.Program{
		Name: env.Name, Version: program.Version(), Stdout: env.Stdout,
		Description: "Books and rides on a running Pillion as many users and riders would, and checks what became of it. Its status is 0 where all is well, 1 where something is not, 2 for a wrong setting, and 3 where all is well but the ledger was not checked.",
	}, &l.settings, env.Args); err != nil {
		return err
	}
	if l.Key.Value != "" {
		if _, err := os.Stat(l.Key.Value); err != nil { // one that is made now is nobody's
			return errSetting.Saying(fmt.Sprintf("--operator-key (OPERATOR_KEY_FILE): %v.", err))
		}
	}
	result, people := io.Writer(nil), env.Stdout
	switch l.JSON.Value {
	case "":
	case "-":
		result, people = env.Stdout, env.Stderr
	default:
		f, err := os.OpenFile(l.JSON.Value, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return errSetting.Saying(fmt.Sprintf("--json: %v.", err))
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		result = f
	}
	return l.load(ctx, env, result, people)
}

func (l *loader) load(ctx context.Context, env program.Env, result, people io.Writer) error {
	line := newProgress(env.Stderr)
	report, err := load.Run(ctx, load.Config{
		Auth: l.Auth.Value, User: l.User.Value, Rider: l.Rider.Value, NATS: l.watched(), CA: l.CA.Value, Watchers: l.Watchers.Value,
		Users: l.Users.Value, Riders: l.Riders.Value, Rate: l.Rate.Value, Duration: l.Duration.Value, Think: l.Think.Value,
		InFlight: l.InFlight.Value, Patience: l.Patience.Value, Seed: uint64(l.Seed.Value), Name: l.Name.Value, Password: l.Password.Value,
		Record: l.Record.On, Log: l.log(env), Progress: line.show,
	})
	line.end()
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("stopped before the load began")
	case err != nil:
		return told(err)
	}
	failed := l.check(context.WithoutCancel(ctx), env, report) // also when the load was ended early
	if err := report.Summarize(people); err != nil {
		return err
	}
	if result != nil {
		encoder := json.NewEncoder(result)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(report); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	if failed == nil && !report.Good() {
		failed = errors.New("the load found something wrong")
	}
	return failed
}

func (l *loader) log(env program.Env) *slog.Logger {
	return env.Logger(setting.Log{Level: l.Level, Format: l.Format})
}

// watched returns where people watch: nowhere, where nobody does.
func (l *loader) watched() string {
	if l.Watchers.Value == 0 {
		return ""
	}
	return l.URL.Value
}

// told makes what keeps a load from beginning its own sentence.
func told(err error) error {
	if f := fault.From(err); f.Kind == fault.Unavailable {
		return errors.New(f.Message)
	}
	return err
}

// checkPatience is how long reading the ledger may take, which may be large.
const checkPatience = 10 * time.Minute

// check holds the report against the ledger, where there is a key for that.
func (l *loader) check(ctx context.Context, env program.Env, report *load.Report) error {
	if l.unchecked = l.Key.Value == ""; l.unchecked {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	return wiring.Operate(ctx, l.log(env), wiring.At(l.Remote, env.Name), l.Key.Value, time.Hour, func(ctx context.Context, o wiring.OperatorSession) error {
		return load.Check(ctx, o.Ledger(), report)
	})
}
