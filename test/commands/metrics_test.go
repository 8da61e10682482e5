package commands

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/token"
)

// TestMetricsExistFromTheStart reads the metrics of a system that nobody has used. Those of
// docs/configuration.md exist, with every value of a label that is known beforehand: increase()
// does not see the first event of a series that begins with it, and an alert on it would stay
// silent.
func TestMetricsExistFromTheStart(t *testing.T) {
	t.Parallel()
	p := proctest.Pillion(t, t.TempDir())
	_, metrics := proctest.Get(t, p.At["ops"]+"/metrics")
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile("`(pillion_[a-z_]+)").FindAllStringSubmatch(string(page), -1)
	if len(documented) < 25 {
		t.Fatalf("docs/configuration.md has %d metrics", len(documented))
	}
	for _, m := range documented {
		series := regexp.MustCompile(`\n` + m[1] + `(_count)?[{ ]`).MatchString(metrics)
		needs := []string{
			"pillion_certificate_expiry_timestamp_seconds", // a certificate
			"pillion_http_request_duration_seconds",        // requests; there are no failures in it
		}
		if !series && !slices.Contains(needs, m[1]) {
			t.Errorf("%s is missing", m[1])
		}
	}

	var kinds []string
	for _, k := range booking.Kinds() {
		kinds = append(kinds, string(k))
	}
	reasons := []string{"subject", "body", "schema", "mismatch", "no_token", "role", "actor", "position",
		"does_not_follow", "duplicate"}
	for _, r := range token.RefusalReasons() {
		reasons = append(reasons, "token_"+r)
	}
	streams := []string{bus.LedgerStream, bus.QuarantineStream, bus.AuditStream, bus.TimersStream}
	for _, b := range bus.Buckets() {
		streams = append(streams, bus.BucketStream(b))
	}
	for name, values := range map[string][]string{
		"append_attempts_total{result":        {"stored", "moved", "retried", "full", "unknown"},
		"audit_entries_total{result":          {"stored", "dropped"},
		"board_snapshots_total{result":        {"made", "overtaken", "failed"},
		"events_appended_total{event":         kinds,
		"events_verified_total{event":         kinds,
		"events_refused_total{reason":         reasons,
		"events_ignored_total{reason":         {"engaged", "aged"},
		"nats_logins_total{result":            {"accepted", "refused", "unavailable"},
		"positions_total{result":              {"taken", "known", "malformed", "lost"},
		"quarantine_records_total{result":     {"recorded", "known", "aged", "dropped"},
		"service_token_renewals_total{result": {"renewed", "refused", "unavailable"},
		"tokens_refused_total{reason":         append(token.RefusalReasons(), "no_keys", "clock"),
		`http_requests_total{method="POST",route="/book",service="usersvc",status`: {"500", "503"},
		`streams_ended_total{reason`:          {"token_revoked", "slow_reader"},
		"ready{check":                         {"nats", "clock", "signing key", "timers of ridersvc"},
		"stream_bytes{stream":                 streams,
		"stream_limit_bytes{stream":           streams,
		"stream_led{stream":                   streams,
		`stream_copies{state="behind",stream`: streams,
	} {
		for _, v := range values {
			if series := "\npillion_" + name + `="` + v + `"`; !strings.Contains(metrics, series) {
				t.Errorf("there is no %s…", series[1:])
			}
		}
	}
}
