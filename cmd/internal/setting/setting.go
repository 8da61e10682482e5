// Package setting turns flags and environment variables into checked values, and finds everything that is wrong with them at once.
//
// A program declares its settings as fields of a struct, of the types of this package, with the tags of kong (name, env, default,
// help), and calls [Parse]. A flag wins over its environment variable, and a variable that is set to nothing counts as not set.
// This is the only package of Pillion that reads the environment.
package setting

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/example/pillion/internal/fault"
)

// ErrSetting is the kind of everything that [Parse] finds wrong. Its message is the sentence to show.
var ErrSetting = fault.New(fault.Invalid, "setting", "A setting is wrong.")

// ErrAnswered says that the command line asked for help or for the version and that it has been printed: there is nothing to run.
var ErrAnswered = errors.New("help or version was printed")

// A Program is what [Parse] shows of itself.
type Program struct {
	Name        string
	Description string
	Version     string
	Stdout      io.Writer // takes help and version
}

// An Adjuster is a grammar whose settings depend on each other. Adjust is called before they are checked; given reports whether a
// flag is on the command line, and not only in the environment.
type Adjuster interface {
	Adjust(given func(flag string) bool)
}

// Parse fills grammar, a pointer to a struct, from args and the environment, and returns the name of the chosen command. It
// returns ErrAnswered after --help and --version; otherwise its error joins one ErrSetting for each setting that is wrong.
func Parse(p Program, grammar any, args []string) (command string, err error) {
	answered := false
	parser, err := kong.New(grammar,
		kong.Name(p.Name),
		kong.Description(p.Description),
		kong.Vars{"version": p.Name + " " + p.Version},
		kong.Writers(p.Stdout, p.Stdout),
		kong.Exit(func(int) { answered = true }),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 120}),
		kong.Help(help),
	)
	if err != nil {
		return "", fmt.Errorf("declare the settings of %s: %w", p.Name, err)
	}
	ctx, err := parser.Parse(args)
	if answered {
		return "", ErrAnswered
	}
	if err != nil {
		return "", ErrSetting.Saying(fmt.Sprintf("%s; %s --help shows what there is.", sentence(err.Error()), p.Name))
	}
	if a, ok := grammar.(Adjuster); ok {
		a.Adjust(func(flag string) bool {
			return slices.ContainsFunc(ctx.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == flag && !p.Resolved })
		})
	}
	var wrong []error
	for _, f := range ctx.Flags() {
		c, ok := f.Target.Addr().Interface().(complainer)
		if !ok || c.complaint() == "" {
			continue
		}
		name := "--" + f.Name
		if len(f.Envs) > 0 {
			name += " (" + strings.Join(f.Envs, ", ") + ")"
		}
		wrong = append(wrong, ErrSetting.Saying(name+" "+c.complaint()+"."))
	}
	if wrong != nil {
		return "", errors.Join(wrong...)
	}
	return commandOf(ctx.Selected()), nil
}

// commandOf returns the words of a command, such as "accounts list", or "" for a program that has none.
func commandOf(n *kong.Node) string {
	if n == nil {
		return ""
	}
	if n.Parent == nil || n.Parent.Type != kong.CommandNode {
		return n.Name
	}
	return commandOf(n.Parent) + " " + n.Name
}

// help shows a program's default command together with the program, so that nobody has to ask twice.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	if ctx.Selected() == nil {
		if d := ctx.Model.DefaultCmd; d != nil {
			ctx.Model.Flags = append(ctx.Model.Flags, d.Flags...)
			defer func() { ctx.Model.Flags = ctx.Model.Flags[:len(ctx.Model.Flags)-len(d.Flags)] }()
		}
	}
	return kong.DefaultHelpPrinter(options, ctx)
}

// sentence begins s with a capital letter.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// A complainer is a setting that keeps what is wrong with its value instead of failing, so that all can be told at once.
type complainer interface{ complaint() string }

// verdict is what is wrong with a setting, as the end of a sentence that begins with its name.
type verdict string

func (v *verdict) complaint() string { return string(*v) }

// judge reads the raw value of a setting, or its default where the value is empty, and hands it to read, which returns "" or what
// the value must be.
func (v *verdict) judge(ctx *kong.DecodeContext, read func(raw string) (must string)) error {
	var raw string
	if err := ctx.Scan.PopValueInto("value", &raw); err != nil {
		return err
	}
	if raw == "" {
		raw = ctx.Value.Default
	}
	*v = ""
	if must := read(raw); must != "" {
		*v = verdict(fmt.Sprintf("must be %s; it is %q", must, raw))
	}
	return nil
}
