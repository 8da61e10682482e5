package program

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"github.com/example/pillion/cmd/internal/setting"
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

// Logger returns a log with the given settings that writes to w. The default format is text on a
// terminal, and JSON otherwise.
func Logger(s setting.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.Level.Value)); err != nil {
		level = slog.LevelInfo // Parse has checked the setting; only its zero value gets here
	}
	options := &slog.HandlerOptions{Level: level}
	format := s.Format.Value
	if format == "" {
		format = "json"
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
