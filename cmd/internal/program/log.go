package program

import (
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/tracing"
)

// Logger returns the log of the process. Main writes the causes of errors to it at level debug. See
// [Logger].
func (e Env) Logger(s setting.Log) *slog.Logger {
	log := Logger(s, e.Stderr)
	if e.log != nil {
		e.log.Store(log)
	}
	return log
}

// Logger returns a log with the given settings that writes to w. Durations have units in it, such
// as 1.5s, in JSON too. Lines about a request name its trace.
func Logger(s setting.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.Level.Value)); err != nil {
		level = slog.LevelInfo // Parse has checked the setting; only its zero value gets here
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: withUnit}
	var lines slog.Handler = slog.NewJSONHandler(w, options)
	if isText(s, w) {
		lines = slog.NewTextHandler(w, options)
	}
	return slog.New(tracing.LogHandler(lines))
}

// isText reports whether the log to w is text. The default is text on a terminal, and JSON
// otherwise.
func isText(s setting.Log, w io.Writer) bool {
	if s.Format.Value != "" {
		return s.Format.Value == "text"
	}
	return IsTerminal(w)
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// withUnit writes a duration with its unit. In JSON it would be a bare number of nanoseconds.
func withUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindDuration {
		return a
	}
	d := a.Value.Duration()
	if d >= time.Millisecond {
		d = d.Round(time.Millisecond)
	}
	return slog.String(a.Key, d.String())
}
