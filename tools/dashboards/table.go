package main

// A board is one dashboard.
type board struct {
	file, title string
	rows        []row
}

type row struct {
	title  string
	panels []panel
}

// A panel shows the results of queries over time, or as bars with their latest values.
type panel struct {
	title, unit string
	about       string // one or more sentences, for those who do not know the metric
	bars        bool
	queries     []query
}

// A query is in PromQL; the legend names labels as in {{route}}.
type query struct{ expr, legend string }

// one returns a single query.
func one(expr, legend string) []query { return []query{{expr, legend}} }

// Units, as Grafana names them.
const (
	size       = "bytes"
	count      = "short"
	perSecond  = "ops"
	requests   = "reqps"
	seconds    = "s"
	share      = "percentunit"
	processors = "short"
)

var boards = []board{health, rides, accounts, streams, reading, keys}

var health = board{"health", "Pillion: health", []row{
	{"Objectives, over an hour", []panel{
		{
			title: "Failed calls", unit: share,
			about: "The share of bookings and acceptances that were answered with a 5xx. The objective is at most " +
				"0.1 %.",
			queries: one(`pillion:slo_bad:ratio_rate1h{slo="availability"}`, "{{route}}"),
		},
		{
			title: "Slow calls", unit: share,
			about: "The share of bookings and acceptances that took more than half a second. The objective is at " +
				"most 1 %.",
			queries: one(`pillion:slo_bad:ratio_rate1h{slo="latency"}`, "{{route}}"),
		},
		{
			title: "Late events", unit: share,
			about: "The share of events that watchers over NATS were told of more than half a second after their " +
				"storing. The objective is at most 1 %.",
			queries: one(`pillion:slo_bad:ratio_rate1h{slo="feed"}`, "feed"),
		},
	}},
	{"Requests", []panel{
		{
			title: "Requests", unit: requests,
			about: "Requests of each route.",
			queries: one(`sum by (service, route) (rate(pillion_http_requests_total[$__rate_interval]))`,
				"{{service}} {{route}}"),
		},
		{
			title: "Errors", unit: requests,
			about: "Answers with a 5xx.",
			queries: one(
				`sum by (service, route, status) (rate(pillion_http_requests_total{status=~"5.."}[$__rate_interval]))`,
				"{{service}} {{route}} {{status}}"),
		},
		{
			title: "Duration, median", unit: seconds,
			about: "Half of a route's requests took longer. Streams are not counted.",
			queries: one(`histogram_quantile(0.5, sum by (service, route, le) `+
				`(rate(pillion_http_request_duration_seconds_bucket[$__rate_interval])))`, "{{service}} {{route}}"),
		},
		{
			title: "Duration, 99th percentile", unit: seconds,
			about: "One in a hundred requests took longer. Streams are not counted.",
			queries: one(`histogram_quantile(0.99, sum by (service, route, le) `+
				`(rate(pillion_http_request_duration_seconds_bucket[$__rate_interval])))`, "{{service}} {{route}}"),
		},
	}},
	{"Instances", []panel{
		{
			title: "Ready", unit: count,
			about:   "1 for each check of /readyz that passes, 0 for those that make the instance unready.",
			queries: one(`min by (instance, check) (pillion_ready)`, "{{instance}} {{check}}"),
		},
		{
			title: "Clock", unit: seconds,
			about: "How far each machine's clock is ahead of that of NATS. At five seconds, either way, its " +
				"services are unready.",
			queries: one(`pillion_clock_offset_seconds`, "{{instance}}"),
		},
		{
			title: "Open connections and streams", unit: count,
			about: "HTTP connections, and streams of live updates.",
			queries: []query{{`pillion_http_connections_open`, "{{instance}} connections"},
				{`pillion_streams_open`, "{{instance}} {{service}} streams"}},
		},
		{
			title: "Refused connections", unit: perSecond,
			about: "Connections closed at once, by the limit that they exceeded.",
			queries: one(`sum by (limit) (rate(pillion_http_connections_refused_total[$__rate_interval]))`,
				"{{limit}}"),
		},
		{
			title: "Memory", unit: size,
			about:   "Resident memory of each process.",
			queries: one(`process_resident_memory_bytes{job="pillion"}`, "{{instance}}"),
		},
		{
			title: "Processors", unit: processors,
			about:   "How many processors each process keeps busy.",
			queries: one(`rate(process_cpu_seconds_total{job="pillion"}[$__rate_interval])`, "{{instance}}"),
		},
	}},
}}

var rides = board{"rides", "Pillion: rides", []row{
	{"Funnel", []panel{
		{
			title: "From request to completion", unit: count, bars: true,
			about: "How many bookings came how far, within the time that is shown.",
			queries: []query{
				{`sum(increase(pillion_events_appended_total{event="requested"}[$__range]))`, "requested"},
				{`sum(increase(pillion_events_appended_total{event="accepted"}[$__range]))`, "accepted"},
				{`sum(increase(pillion_events_appended_total{event="arrived"}[$__range]))`, "arrived"},
				{`sum(increase(pillion_events_appended_total{event="started"}[$__range]))`, "started"},
				{`sum(increase(pillion_events_appended_total{event="completed"}[$__range]))`, "completed"},
			},
		},
		{
			title: "Events", unit: perSecond,
			about:   "What happens to bookings.",
			queries: one(`sum by (event) (rate(pillion_events_appended_total[$__rate_interval]))`, "{{event}}"),
		},
	}},
	{"Waiting", []panel{
		{
			title: "Time to accept", unit: seconds,
			about: "From a request to its acceptance: half of the users, and one in ten, waited longer.",
			queries: []query{
				{`histogram_quantile(0.5, sum by (le) (rate(pillion_booking_accept_seconds_bucket[$__rate_interval])))`,
					"half"},
				{`histogram_quantile(0.9, sum by (le) (rate(pillion_booking_accept_seconds_bucket[$__rate_interval])))`,
					"one in ten"}},
		},
		{
			title: "Expired", unit: share,
			about: "The share of requests that no rider accepted in time, over an hour. It rises if riders are too " +
				"few.",
			queries: one(`sum(increase(pillion_events_appended_total{event="expired"}[1h])) `+
				`/ sum(increase(pillion_events_appended_total{event="requested"}[1h]))`, "expired"),
		},
		{
			title: "Released", unit: share,
			about: "The share of acceptances that were given back or taken away, over an hour. It rises if riders " +
				"give up, or cannot find the users.",
			queries: one(`sum(increase(pillion_events_appended_total{event=~"released|operator_released"}[1h])) `+
				`/ sum(increase(pillion_events_appended_total{event="accepted"}[1h]))`, "released"),
		},
		{
			title: "Cancelled", unit: share,
			about: "The share of requests that were cancelled, over an hour.",
			queries: one(`sum(increase(pillion_events_appended_total{event=~"cancelled|operator_cancelled"}[1h])) `+
				`/ sum(increase(pillion_events_appended_total{event="requested"}[1h]))`, "cancelled"),
		},
	}},
	{"Riders", []panel{
		{
			title: "Riders", unit: count,
			about:   "Riders who have reported within the hour, and those who are online.",
			queries: one(`max by (state) (pillion_riders)`, "{{state}}"),
		},
		{
			title: "Positions", unit: perSecond,

			about: "Positions that instances receive from each other, by result. Lost ones mean that an instance is " +
				"too slow.",
			queries: one(`sum by (result) (rate(pillion_positions_total[$__rate_interval]))`, "{{result}}"),
		},
	}},
}}

var accounts = board{"accounts", "Pillion: accounts", []row{
	{"Logins and sessions", []panel{
		{
			title: "Logins", unit: perSecond,
			about:   "Attempts to log in, by result. Limited ones came too often.",
			queries: one(`sum by (result) (rate(pillion_logins_total[$__rate_interval]))`, "{{result}}"),
		},
		{
			title: "Accounts tried", unit: count,
			about: "On how many accounts wrong passwords were tried within a quarter of an hour, and how many " +
				"logins succeeded. If the first is larger, passwords are being sprayed.",
			queries: []query{{`sum(increase(pillion_login_refused_accounts_total[15m]))`, "accounts refused"},
				{`sum(increase(pillion_logins_total{result="success"}[15m]))`, "logins"}},
		},
		{
			title: "Refreshes", unit: perSecond,
			about:   "Uses of refresh tokens, by result. A reused one was stolen, or an app uses it twice.",
			queries: one(`sum by (result) (rate(pillion_refreshes_total[$__rate_interval]))`, "{{result}}"),
		},
		{
			title: "Registrations", unit: perSecond,
			about:   "Attempts to register, by result.",
			queries: one(`sum by (result) (rate(pillion_registrations_total[$__rate_interval]))`, "{{result}}"),
		},
	}},
	{"Refused", []panel{
		{
			title: "Tokens", unit: perSecond,
			about: "Tokens of requests that were refused, by reason. An unknown key is a made-up token, or a lost " +
				"key.",
			queries: one(`sum by (reason) (rate(pillion_tokens_refused_total[$__rate_interval]))`, "{{reason}}"),
		},
		{
			title: "Events", unit: count,
			about:   "Messages of the ledger that re-verification refused within an hour, by reason.",
			queries: one(`max by (reason) (increase(pillion_events_refused_total[1h]))`, "{{reason}}"),
		},
		{
			title: "Quarantine", unit: count,
			about:   "Records of refused messages within an hour, by result. Dropped ones are missing.",
			queries: one(`sum by (result) (increase(pillion_quarantine_records_total[1h]))`, "{{result}}"),
		},
		{
			title: "Untrusted writes", unit: count,
			about: "Keys, revocations, accounts and sessions that authsvc has not written, within an hour.",
			queries: []query{{`sum by (kind) (increase(pillion_untrusted_documents_total[1h]))`, "{{kind}}"},
				{`sum by (bucket) (increase(pillion_untrusted_records_total[1h]))`, "{{bucket}}"}},
		},
		{
			title: "Connections to NATS", unit: perSecond,
			about:   "Connections to NATS with a token, or without a known credential, by result.",
			queries: one(`sum by (result) (rate(pillion_nats_logins_total[$__rate_interval]))`, "{{result}}"),
		},
		{
			title: "Audit trail", unit: perSecond,
			about:   "Entries of the audit trail, by result. Dropped ones are in authsvc's log alone.",
			queries: one(`sum by (result) (rate(pillion_audit_entries_total[$__rate_interval]))`, "{{result}}"),
		},
	}},
}}
