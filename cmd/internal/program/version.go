package program

import "runtime/debug"

// Release is the version of all Pillion programs. NATS requires a semantic version of a micro
// service.
const Release = "0.1.0-dev"

// Version returns the release and, if the build recorded it, the commit.
func Version() string {
	if commit := Commit(); commit != "" {
		return Release + " (" + commit + ")"
	}
	return Release
}

// Commit returns the commit that was built, in twelve digits, or "" if the build did not record it.
// A plus sign at its end says that files had been changed since.
func Commit() (commit string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	changed := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			commit = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+"
		}
	}
	if commit != "" {
		commit += changed
	}
	return commit
}
