// Command pillion-sim plays the people of a city, or the crowd of a load test, on a running
// Pillion, and checks the result. See docs/simulation.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/sim"
)

// unchecked is the exit status of a good run whose ledger was not checked.
const unchecked = 3

func main() {
	var l player
	line := program.CommandLine{
		Description: "Books and rides on a running Pillion as the people of a city would, and checks the result. " +
			"Exit status: 0 all is well, 1 something is wrong, 2 a bad setting, 3 all is well but the ledger was not checked.",
		Grammar: &l,
	}
	status := program.Main("pillion-sim", line.Run)
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

	Users    setting.Count    `name:"users" env:"SIM_USERS" default:"60" min:"1" max:"1000000" placeholder:"N" group:"People:" help:"Number of users (default: ${default})."`
	Riders   setting.Count    `name:"riders" env:"SIM_RIDERS" default:"40" min:"1" max:"1000000" placeholder:"N" group:"People:" help:"Number of riders, most of whom work in the morning or in the evening (default: ${default})."`
	Watchers setting.Count    `name:"watchers" env:"SIM_WATCHERS" default:"100" min:"0" max:"1000000" placeholder:"N" group:"People:" help:"Number of users, and of riders, that watch their bookings over NATS (default: ${default})."`
	Rides    setting.Real     `name:"rides" env:"SIM_RIDES" default:"60" min:"0.001" max:"1000000" placeholder:"N" group:"People:" help:"Mean number of rides that people want in an hour of the city, over a day (default: ${default})."`
	Begin    setting.Duration `name:"begin" env:"SIM_BEGIN" default:"8h" min:"1m" max:"24h" placeholder:"DURATION" group:"People:" help:"Time of the day at which the city begins (default: ${default})."`
	Speed    setting.Real     `name:"speed" env:"SIM_SPEED" default:"1" min:"0.01" max:"100" placeholder:"N" group:"People:" help:"How many times faster than ours the clock of the city runs (default: ${default})."`
	Duration setting.Duration `name:"duration" env:"SIM_DURATION" default:"10m" min:"1s" max:"8760h" placeholder:"DURATION" group:"People:" help:"How long users book, by the clock of the city (default: ${default})."`
	Seed     setting.Count    `name:"seed" env:"SIM_SEED" default:"0" min:"0" max:"2147483647" placeholder:"N" group:"People:" help:"Seed of the city, and of what people decide; 0 takes a new one each time (default: ${default})."`

	Rate     setting.Real     `name:"rate" env:"SIM_RATE" default:"0" min:"0" max:"100000" placeholder:"N" group:"Load test:" help:"Bookings per second, evenly and all at one place, however slow the answers are; 0 means a city (default: ${default})."`
	Think    setting.Duration `name:"think" env:"SIM_THINK" default:"500ms" min:"1ms" max:"1h" placeholder:"DURATION" group:"Load test:" help:"Pause of users and riders between two steps of a load test (default: ${default})."`
	InFlight setting.Count    `name:"in-flight" env:"SIM_IN_FLIGHT" default:"1000" min:"1" max:"1000000" placeholder:"N" group:"Calls:" help:"Maximum number of booking requests in flight; further ones are dropped and counted (default: ${default})."`
	Patience setting.Duration `name:"patience" env:"SIM_PATIENCE" default:"30s" min:"1s" max:"1h" placeholder:"DURATION" group:"Calls:" help:"How long a user or rider retries one step (default: ${default})."`
	Name     setting.Text     `name:"name" env:"SIM_NAME" placeholder:"NAME" group:"Calls:" help:"Prefix of account names. With SIM_PASSWORD, a run can use the accounts of an earlier one (default: a random name)."`
	Password setting.Text     `name:"password" env:"SIM_PASSWORD" placeholder:"WORDS" group:"Calls:" help:"Password of all accounts; better set SIM_PASSWORD (default: a random one)."`

	JSON        setting.Text   `name:"json" placeholder:"FILE" group:"Result:" help:"Write the report as JSON to a file, or to standard output with -."`
	Record      setting.Switch `name:"record" group:"Result:" help:"Include every call in the JSON."`
	setting.Log `set:"log_level=warn"`
}

// A player is one run of the program.
type player struct {
	settings
	unchecked bool
}

var errSetting = fault.New(fault.Invalid, "setting", "A setting is wrong.")

// Run plays the scene, checks the ledger, and prints the report. It returns an error if anything is
// wrong.
func (p *player) Run(ctx context.Context, env program.Env) (err error) {
	if p.Key.Value != "" {
		// a key created now would be unknown to the system
		if _, err := os.Stat(p.Key.Value); err != nil {
			return errSetting.Sayingf("--operator-key (OPERATOR_KEY_FILE): %v.", err)
		}
	}
	result, summary := io.Writer(nil), env.Stdout
	switch p.JSON.Value {
	case "":
	case "-":
		result, summary = env.Stdout, env.Stderr
	default:
		f, err := os.OpenFile(p.JSON.Value, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return errSetting.Sayingf("--json: %v.", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		result = f
	}
	return p.play(ctx, env, result, summary)
}

// play plays the scene. It writes the report as JSON to result, unless that is nil, and as text to
// summary.
func (p *player) play(ctx context.Context, env program.Env, result, summary io.Writer) error {
	seed := uint64(p.Seed.Value)
	if seed == 0 {
		seed = rand.Uint64() //nolint:gosec // no secret
	}
	scene, err := p.scene(seed)
	if err != nil {
		return err
	}
	line := newProgress(env.Stderr)
	c := sim.Config{
		Auth: p.Auth.Value, User: p.User.Value, Rider: p.Rider.Value, Watchers: p.Watchers.Value,
		Scene: scene, Speed: p.Speed.Value, Duration: p.Duration.Value,
		InFlight: p.InFlight.Value, Patience: p.Patience.Value, Seed: seed,
		Name: p.Name.Value, Password: p.Password.Value,
		Record: p.Record.On, Log: env.Logger(p.Log), Progress: line.show,
	}
	if p.Watchers.Value > 0 {
		c.NATS = &bus.Config{URL: p.URL.Value, CA: p.CA.Value}
	}
	report, err := sim.Run(ctx, c)
	line.end()
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("stopped before anybody booked")
	case err != nil:
		return plain(err)
	}
	// even if a signal has ended the run
	failed := p.check(context.WithoutCancel(ctx), env, report)
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
		failed = errors.New("the simulation found faults")
	}
	return failed
}

// scene returns what is played: a city, or with a rate the crowd of a load test.
func (p *player) scene(seed uint64) (sim.Scene, error) {
	if p.Rate.Value > 0 {
		return sim.Crowd{
			Seed: seed, Users: p.Users.Value, Riders: p.Riders.Value, Rate: p.Rate.Value, Think: p.Think.Value,
		}.Scene()
	}
	return sim.City{
		Seed: seed, Users: p.Users.Value, Riders: p.Riders.Value, Rides: p.Rides.Value, Begin: p.Begin.Value,
	}.Scene(), nil
}

// plain reduces an error that keeps a run from starting to its message.
func plain(err error) error {
	if f := fault.From(err); f.Kind == fault.Unavailable {
		return errors.New(f.Message)
	}
	return err
}

// checkTimeout bounds the reading of the ledger, which may be large.
const checkTimeout = 10 * time.Minute

// check compares the report with the ledger, if there is an operator's key.
func (p *player) check(ctx context.Context, env program.Env, report *sim.Report) error {
	if p.unchecked = p.Key.Value == ""; p.unchecked {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	o := wiring.Operator{Log: env.Logger(p.Log), At: wiring.At(p.Remote, env.Name), Key: p.Key.Value}
	return o.Session(ctx, time.Hour, func(ctx context.Context, s wiring.OperatorSession) error {
		return sim.Check(ctx, s.Ledger(), report)
	})
}
