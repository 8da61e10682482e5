package main

var streams = board{"nats", "Pillion: NATS", []row{
	{"Room", []panel{
		{
			title: "Full", unit: share,
			about: "How much of its limit each stream, and each bucket (KV_…), has used. AUDIT and QUARANTINE drop " +
				"their oldest when they are full; nothing can be stored in the others then.",
			queries: one(`max by (stream) (pillion_stream_bytes) / max by (stream) (pillion_stream_limit_bytes > 0)`,
				"{{stream}}"),
		},
		{
			title: "Size", unit: size,
			about:   "How much each stream holds.",
			queries: one(`max by (stream) (pillion_stream_bytes)`, "{{stream}}"),
		},
		{
			title: "Messages", unit: count,
			about:   "How many messages each stream holds.",
			queries: one(`max by (stream) (pillion_stream_messages)`, "{{stream}}"),
		},
		{
			title: "Growth in a day", unit: size,
			about:   "How much each stream has grown since yesterday. It shrinks when old messages expire.",
			queries: one(`max by (stream) (delta(pillion_stream_bytes[1d]))`, "{{stream}}"),
		},
	}},
	{"Servers", []panel{
		{
			title: "Led", unit: count,
			about:   "1 while a leader that is in touch with most of the copies answers at least one instance.",
			queries: one(`max by (stream) (pillion_stream_led)`, "{{stream}}"),
		},
		{
			title: "Copies", unit: count,
			about:   "Copies of each stream that are current, and those that are behind or away.",
			queries: one(`max by (stream, state) (pillion_stream_copies)`, "{{stream}} {{state}}"),
		},
		{
			title: "Writes to the ledger", unit: perSecond,
			about: "Tries to write to the ledger, by result. Moved means that another writer was faster, and " +
				"unknown that NATS was away.",
			queries: one(`sum by (result) (rate(pillion_append_attempts_total[$__rate_interval]))`, "{{result}}"),
		},
	}},
}}

var reading = board{"board", "Pillion: board and feed", []row{
	{"How far behind", []panel{
		{
			title: "Lists", unit: count,
			about:   "Messages of the ledger that an instance's board has yet to read.",
			queries: one(`pillion_consumer_lag`, "{{instance}}"),
		},
		{
			title: "Waits for keys", unit: count,
			about:   "1 while a board waits for keys or revocations that it needs for its next message.",
			queries: one(`pillion_follower_stalled`, "{{instance}}"),
		},
		{
			title: "Feed", unit: count,
			about:   "Messages that the instance that publishes the feed has yet to tell watchers over NATS of.",
			queries: one(`pillion_feed_lag`, "{{instance}}"),
		},
		{
			title: "Feed, delay", unit: seconds,
			about: "From the storing of an event until watchers were told: half of the events, and one in a " +
				"hundred, took longer.",
			queries: []query{
				{`histogram_quantile(0.5, sum by (le) (rate(pillion_feed_delay_seconds_bucket[$__rate_interval])))`,
					"half"},
				{`histogram_quantile(0.99, sum by (le) (rate(pillion_feed_delay_seconds_bucket[$__rate_interval])))`,
					"one in a hundred"}},
		},
		{
			title: "Events read", unit: perSecond,
			about:   "Events that each instance has verified and put on its board.",
			queries: one(`sum by (instance) (rate(pillion_events_verified_total[$__rate_interval]))`, "{{instance}}"),
		},
		{
			title: "Rebuilds", unit: count,
			about:   "How often a board was read again within an hour, because the past was changed on purpose.",
			queries: one(`increase(pillion_board_rebuilds_total[1h])`, "{{instance}}"),
		},
	}},
	{"Snapshots", []panel{
		{
			title: "Age", unit: seconds,
			about: "Since the last snapshot was made, and how often one is due while events are stored.",
			queries: []query{{`time() - max(pillion_board_snapshot_timestamp_seconds)`, "age"},
				{`max(pillion_board_snapshot_interval_seconds)`, "due every"}},
		},
		{
			title: "Messages since", unit: count,
			about:   "How many messages a start would have to read besides the snapshot.",
			queries: one(`max(pillion_board_sequence) - max(pillion_board_snapshot_sequence)`, "messages"),
		},
		{
			title: "Size of a snapshot", unit: size,
			about:   "The bucket holds three of the largest that fit the ledger.",
			queries: one(`max(pillion_board_snapshot_bytes)`, "bytes"),
		},
		{
			title: "Made", unit: count,
			about:   "Snapshots within an hour, by result. Overtaken means that another instance was faster.",
			queries: one(`sum by (result) (increase(pillion_board_snapshots_total[1h]))`, "{{result}}"),
		},
		{
			title: "Started from", unit: count,
			about:   "What each instance's board was started from: a snapshot, or the whole ledger and why.",
			queries: one(`pillion_board_started_from`, "{{instance}} {{from}}"),
		},
	}},
}}

var keys = board{"keys", "Pillion: certificates and keys", []row{
	{"Run out", []panel{
		{
			title: "Certificates", unit: seconds,
			about: "How long the certificate of each HTTP listener is valid, and that of the NATS server that the " +
				"instance is connected to.",
			queries: one(`pillion_certificate_expiry_timestamp_seconds - time()`, "{{instance}} {{listener}}"),
		},
		{
			title: "Services' own tokens", unit: seconds,
			about:   "How long each service can still act by itself. A token is renewed at half of its life.",
			queries: one(`pillion_service_token_seconds`, "{{instance}} {{service}}"),
		},
		{
			title: "Renewals", unit: perSecond,
			about: "Tries to renew the services' own tokens, by result.",
			queries: one(`sum by (service, result) (rate(pillion_service_token_renewals_total[$__rate_interval]))`,
				"{{service}} {{result}}"),
		},
	}},
	{"Signing", []panel{
		{
			title: "Age of the active key", unit: seconds,
			about: "How long the key has been signing, and when it is replaced.",
			queries: []query{{`max(pillion_signing_key_age_seconds)`, "age"},
				{`max(pillion_signing_key_max_age_seconds)`, "is replaced at"}},
		},
		{
			title: "Published keys", unit: count,
			about:   "Keys of the published set, by stage. One should be next, and one active.",
			queries: one(`max by (stage) (pillion_signing_keys)`, "{{stage}}"),
		},
	}},
	{"Versions", []panel{
		{
			title: "Versions", unit: count, bars: true,
			about:   "How many instances run which version.",
			queries: one(`count by (version, commit) (pillion_build_info)`, "{{version}} {{commit}}"),
		},
	}},
}}
