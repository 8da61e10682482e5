// Package setting parses flags and environment variables into checked values, and reports all bad
// ones together.
//
// A program declares its settings as the fields of a struct, with this package's types and kong's
// tags (name, env, default, help), and calls [Parse]. A flag overrides its environment variable. An
// empty variable counts as unset. No other package of Pillion reads the environment.
package setting

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/example/pillion/internal/fault"
)

// ErrSetting means that a flag or a variable has a bad value. Its message names both and says what
// the value must be.
var ErrSetting = fault.New(fault.Invalid, "setting", "A setting is wrong.")

// ErrAnswered means that the command line asked for help or the version, which Parse has printed.
// There is nothing to run.
var ErrAnswered = errors.New("help or version was printed")

// A Program describes the program for --help and --version.
type Program struct {
	Name        string
	Description string
	Version     string
	Ops         string    // the port of its ops address
	Stdout      io.Writer // for help and version
}

// An Adjuster is a grammar whose settings depend on each other. Parse calls Adjust before it
// reports bad values. given reports whether a flag is on the command line, as opposed to the
// environment.
type Adjuster interface {
	Adjust(given func(flag string) bool)
}

// Parse fills grammar, a pointer to a struct, from args and the environment, and returns the chosen
// command. It returns ErrAnswered after --help and --version. Otherwise its error joins one
// ErrSetting for each bad value.
func Parse(p Program, grammar any, args []string) (*kong.Context, error) {
	answered := false
	parser, err := kong.New(grammar,
		kong.Name(p.Name),
		kong.Description(p.Description),
		kong.Vars{"version": p.Name + " " + p.Version, "ops": p.Ops},
		kong.Writers(p.Stdout, p.Stdout),
		kong.Exit(func(int) { answered = true }),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 120, FlagsLast: true}),
		kong.Help(help),
	)
	if err != nil {
		return nil, fmt.Errorf("declare the settings of %s: %w", p.Name, err)
	}
	ctx, err := parser.Parse(args)
	if answered {
		return nil, ErrAnswered
	}
	if err != nil {
		return nil, ErrSetting.Sayingf("%s; see %s --help.", sentence(err.Error()), p.Name)
	}
	if a, ok := grammar.(Adjuster); ok {
		a.Adjust(func(flag string) bool {
			return slices.ContainsFunc(ctx.Path, func(p *kong.Path) bool {
				return p.Flag != nil &&
					p.Flag.Name == flag && !p.Resolved
			})
		})
	}
	var wrong []error
	for _, f := range ctx.Flags() {
		c, ok := f.Target.Addr().Interface().(checked)
		if !ok || c.description() == "" {
			continue
		}
		name := "--" + f.Name
		if len(f.Envs) > 0 {
			name += " (" + strings.Join(f.Envs, ", ") + ")"
		}
		wrong = append(wrong, ErrSetting.Saying(name+" "+c.description()+"."))
	}
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	return ctx, nil
}

// help prints the flags of the default command as part of the program's own help.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	if ctx.Selected() == nil {
		if d := ctx.Model.DefaultCmd; d != nil {
			ctx.Model.Flags = append(ctx.Model.Flags, d.Flags...)
			defer func() { ctx.Model.Flags = ctx.Model.Flags[:len(ctx.Model.Flags)-len(d.Flags)] }()
		}
	}
	return kong.DefaultHelpPrinter(options, ctx)
}

// sentence returns s with a capital first letter.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// checked is implemented by all settings. They store a problem instead of returning an error, so
// that Parse can report all problems together.
type checked interface{ description() string }

// A problem describes a bad value. It completes a sentence that begins with the name of the
// setting. "" means that the value is good.
type problem string

func (p *problem) description() string { return string(*p) }

// decode passes the raw value of a setting to read, or its default if the value is empty.
func (p *problem) decode(ctx *kong.DecodeContext, read func(raw string) problem) error {
	var raw string
	if err := ctx.Scan.PopValueInto("value", &raw); err != nil {
		return err
	}
	*p = read(cmp.Or(raw, ctx.Value.Default))
	return nil
}

// mustBe is the problem of a value that is not what it must be.
func mustBe(what, raw string) problem { return problem(fmt.Sprintf("must be %s; it is %q", what, raw)) }
