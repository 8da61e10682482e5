package program

import "runtime/debug"

// Release is the version of all Pillion programs. NATS requires a semantic version of a micro
// service.
const Release = "0.1.0-dev"

// Version returns the release and, if the build recorded it, the commit.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Release
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return Release + " (" + s.Value[:12] + ")"
		}
	}
	return Release
}
