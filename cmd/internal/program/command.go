package program

import (
	"context"

	"github.com/example/pillion/cmd/internal/setting"
)

// A CommandLine is the command line of a program. Grammar is a pointer to a struct, and each of its
// commands has a method Run(context.Context, Env) error, which may also take a CommandName.
type CommandLine struct {
	Description string
	Ops         string // the port of the ops address
	Grammar     any
}

// A CommandName is the last word of a command, such as "list".
type CommandName string

// Run runs the chosen command. Errors: those of [setting.Parse] and of the command.
func (c CommandLine) Run(ctx context.Context, env Env) error {
	chosen, err := setting.Parse(setting.Program{
		Name: env.Name, Version: Version(), Stdout: env.Stdout, Description: c.Description, Ops: c.Ops,
	}, c.Grammar, env.Args)
	if err != nil {
		return err
	}
	chosen.BindTo(ctx, (*context.Context)(nil))
	name := CommandName("")
	if node := chosen.Selected(); node != nil {
		name = CommandName(node.Name)
	}
	return chosen.Run(env, name)
}
