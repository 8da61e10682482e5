package commands

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/example/pillion/test/proctest"
)

// TestExtremeSettings starts Pillion with each number and duration at its minimum, at its maximum,
// and switched off.
func TestExtremeSettings(t *testing.T) {
	t.Parallel()
	_, help, _ := proctest.Finish(t, "pillion", "--help")
	tags := settingTags(t)
	for _, c := range []struct {
		name, bound string
		more        []string
	}{
		// The minimum age of a key depends on how long keys are kept.
		{"minimum", "min", []string{"--key-age=24h"}},
		{"maximum", "max", nil},
		{"off", "off", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var args []string
			for _, tag := range tags {
				value, ok := tag.Lookup(c.bound)
				if c.bound == "off" {
					value = "0"
				}
				if flag := "--" + tag.Get("name") + "="; ok && strings.Contains(help, flag) {
					args = append(args, flag+value)
				}
			}
			if len(args) < 3 {
				t.Fatalf("only %d settings have the tag %s", len(args), c.bound)
			}
			p := proctest.Pillion(t, t.TempDir(), append(args, c.more...)...)
			if status, words := p.Readiness(t); status != http.StatusOK {
				t.Errorf("with %s: %d %s", strings.Join(args, " "), status, words)
			}
			p.Stop(t)
		})
	}
}

// settingTags returns the struct tags of the settings that several programs share. They are read
// from the source, because package setting is internal to cmd.
func settingTags(t *testing.T) []reflect.StructTag {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../cmd/internal/setting/groups.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var tags []reflect.StructTag
	ast.Inspect(file, func(n ast.Node) bool {
		if field, ok := n.(*ast.Field); ok && field.Tag != nil {
			tags = append(tags, reflect.StructTag(strings.Trim(field.Tag.Value, "`")))
		}
		return true
	})
	return tags
}
